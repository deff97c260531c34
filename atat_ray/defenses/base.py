"""What every defense is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor, nn

from atat_ray.seeding import BatchDraws

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class LossTerms:
    """The loss of one batch.

    Attributes:
        total: scalar to minimise, a mean over the images.
        curves: scalars worth recording, detached, by name.
    """

    total: Tensor
    curves: dict[str, Tensor]


class Defense(Protocol):
    """Options of a defense, and its loss."""

    summary: ClassVar[str]
    source: ClassVar[str]

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute the loss of a batch: (N, C, H, W) in [0, 1] and (N,) long."""
        ...


def check_weight(weight: float) -> None:
    """Refuse a weight lambda below 0.

    Raises:
        ValueError: it is negative or not a number.
    """
    if not weight >= 0:
        raise ValueError(f"weight (lambda) must be 0 or above, got {weight:g}")
