"""No defense: plain training, the control of every trial."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from atat_ray.training.interface import Defense, Forward, LossTerms
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import BatchDraws


@dataclass(frozen=True, kw_only=True, slots=True)
class NoDefense(Defense):
    """Plain training; it has no options."""

    summary: ClassVar[str] = "plain training with cross-entropy"
    source: ClassVar[str] = "the control"
    __pydantic_config__ = STRICT

    def loss(self, model: Forward, images: Tensor, labels: Tensor, draws: BatchDraws) -> LossTerms:
        """Compute CE(f(x), y)."""
        clean = cross_entropy(model(images), labels)
        return LossTerms(total=clean, curves={"clean_loss": clean.detach()})
