"""RoLSS and SSF: remove or weaken the last skip connections of a residual network."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, ClassVar

from torch import Tensor, nn

from atat_ray.data import Faces
from atat_ray.models.layer_access import require_method
from atat_ray.training.interface import Defense, LossTerms
from atat_ray.training.no_defense import NoDefense
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import BatchDraws


def scale_skips(
    model: nn.Module, skips: Sequence[float], defense: str, *, hidden_share: float = 0.0
) -> nn.Module:
    """Multiply the skips of each stage by a factor, in place.

    Args:
        model: with residual blocks.
        skips: one factor for each stage; 0 removes the skips with their parameters.
        defense: name for error messages.
        hidden_share: share of the blocks of the last stage but one, counted from its end and
            rounded up, whose skips are removed in addition to ``skips``.

    Raises:
        ValueError: the network has no skips, or another number of stages.
    """
    blocks = require_method(model, "skips", defense, "skips")()
    if len(skips) != len(blocks):
        raise ValueError(
            f"{defense} needs one factor for each of the {len(blocks)} stages, got {len(skips)}"
        )
    for stage, factor in zip(blocks, skips, strict=True):
        for block in stage:
            block.scale_skip(factor)
    for block in blocks[-2][len(blocks[-2]) - ceil(hidden_share * len(blocks[-2])) :]:
        block.scale_skip(0.0)
    return model


def check_skips(skips: Sequence[float], name: str) -> None:
    """Refuse factors outside [0, 1].

    Raises:
        ValueError: a factor is outside.
    """
    for factor in skips:
        if not 0 <= factor <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {factor:g}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rolss(Defense):
    """Options of the removal of skip connections.

    Attributes:
        skips: factor of the skips of each stage, in [0, 1]; RoLSS has (1, 1, 1, 0).
        hidden_share: share of the blocks of the last stage but one, counted from its end, that lose
            their skips in addition to ``skips``; 0.2 in the reference code, 0 in the paper.
    """

    skips: tuple[float, ...]
    hidden_share: float = 0.0

    summary: ClassVar[str] = "plain training of a network without its last skips"
    source: ClassVar[str] = "Koh et al., On the vulnerability of skip connections, ECCV 2024"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "reference": {"skips": (1.0, 1.0, 1.0, 0.0), "hidden_share": 0.2}
    }
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        check_skips(self.skips, "skips")
        check_skips([self.hidden_share], "hidden_share")
        if all(factor == 1 for factor in self.skips) and self.hidden_share == 0:
            raise ValueError(
                "skips of 1 change nothing; lower one of them, or use the defense none"
            )

    def prepare(self, model: nn.Module, *, public: Faces | None, seed: int) -> nn.Module:
        """Scale the skips of a network."""
        return scale_skips(model, self.skips, "rolss", hidden_share=self.hidden_share)

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute CE(f(x), y); the defense differs in the network."""
        return NoDefense().loss(model, images, labels, draws)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ssf(Defense):
    """Options of the scaling of skip connections.

    Attributes:
        factor: of the skips of the last stage, above 0 and below 1; 0.2 in the paper.
        hidden_share: as for RoLSS; 0.2 in the reference code, 0 in the paper.
    """

    factor: float
    hidden_share: float = 0.0

    summary: ClassVar[str] = "plain training of a network with weak skips in its last stage"
    source: ClassVar[str] = "Koh et al., On the vulnerability of skip connections, ECCV 2024"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "reference": {"factor": 0.2, "hidden_share": 0.2}
    }
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not 0 < self.factor < 1:
            raise ValueError(
                f"factor must be above 0 and below 1, got {self.factor:g}; for 0 use rolss"
            )
        check_skips([self.hidden_share], "hidden_share")

    def prepare(self, model: nn.Module, *, public: Faces | None, seed: int) -> nn.Module:
        """Scale the skips of the last stage."""
        blocks = require_method(model, "skips", "ssf", "skips")()
        skips = [1.0] * (len(blocks) - 1) + [self.factor]
        return scale_skips(model, skips, "ssf", hidden_share=self.hidden_share)

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute CE(f(x), y); the defense differs in the network."""
        return NoDefense().loss(model, images, labels, draws)
