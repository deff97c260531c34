"""Label smoothing, positive or negative, and the defense with positive smoothing."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from atat_ray.training.interface import Defense, Forward, LossTerms
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import BatchDraws


def check_smoothing(smoothing: float) -> None:
    """Refuse a share of smoothing outside [0, 1).

    Raises:
        ValueError: the share is outside.
    """
    if not 0 <= smoothing < 1:
        raise ValueError(
            f"smoothing is a share of the label in [0, 1), got {smoothing:g}; "
            "for negative smoothing use neg_ls"
        )


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float | Tensor) -> Tensor:
    """Compute the batch mean of ``(1 - s) (-log p_y) + s mean_c(-log p_c)``; s may be negative.

    Implements Szegedy et al. (2016), Sec. 7, and for negative s Struppek et al. (2024), "Be careful
    what you smooth for", Eq. 2: (N, C), (N,) -> scalar.
    """
    log_p = logits.log_softmax(1)
    right = -log_p.gather(1, labels[:, None]).squeeze(1)
    return ((1 - smoothing) * right - smoothing * log_p.mean(1)).mean()


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelSmoothing(Defense):
    """Options of plain label smoothing.

    Attributes:
        smoothing: share of the label that is spread over all classes, in [0, 1).
    """

    smoothing: float

    summary: ClassVar[str] = "CE with smoothed labels, a control: less confident, no decoys"
    source: ClassVar[str] = "Rethinking the inception architecture, CVPR 2016, Sec. 7"
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        check_smoothing(self.smoothing)

    def loss(self, model: Forward, images: Tensor, labels: Tensor, draws: BatchDraws) -> LossTerms:
        """Compute the smoothed cross-entropy of a batch."""
        logits = model(images)
        clean = cross_entropy(logits.detach(), labels)
        total = cross_entropy(logits, labels, label_smoothing=self.smoothing)
        return LossTerms(total=total, curves={"clean_loss": clean})
