"""NegLS: negative label smoothing, after a first part of the training without smoothing."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from atat_ray.defenses.label_smoothing import smoothed_cross_entropy
from atat_ray.training.interface import Course, Defense, LossTerms, Session
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import BatchDraws


@dataclass(frozen=True, kw_only=True, slots=True)
class NegLs(Defense):
    """Options of negative label smoothing.

    Attributes:
        smoothing: final alpha, below 0; -0.05 in the paper.
        start: share of the epochs without smoothing.
        full: share of the epochs after which alpha has its final value; it is linear in between.
        jump: let alpha grow as if it reached the final value at the end of the training, and jump
            to that value at ``full``, as the reference code does.
        first_epoch: number of the first epoch in the schedule; 0, or 1 as in the reference code,
            whose schedule is therefore one epoch ahead.
    """

    smoothing: float
    start: float = 0.5
    full: float = 0.75
    jump: bool = False
    first_epoch: int = 0

    summary: ClassVar[str] = "CE with labels smoothed below zero, after a start without"
    source: ClassVar[str] = "Struppek et al., Be careful what you smooth for, ICLR 2024, Eq. 2"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "reference": {"smoothing": -0.05, "jump": True, "first_epoch": 1}
    }
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not self.smoothing < 0:
            raise ValueError(
                f"smoothing must be below 0, got {self.smoothing:g}; for others use label_smoothing"
            )
        if not 0 <= self.start <= self.full <= 1:
            raise ValueError(
                f"0 <= start <= full <= 1 must hold, shares of the epochs, "
                f"got {self.start:g} and {self.full:g}"
            )
        if self.first_epoch not in (0, 1):
            raise ValueError(f"first_epoch must be 0 or 1, got {self.first_epoch}")

    def alpha(self, epoch: int, epochs: int) -> float:
        """Compute the smoothing of an epoch, counted from 0."""
        epoch += self.first_epoch
        first, last = self.start * epochs, self.full * epochs
        if epoch < first:
            return 0.0
        if epoch >= last:
            return self.smoothing
        end = epochs if self.jump else last
        return self.smoothing * min(1.0, (epoch + 1 - first) / (end - first))

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute the loss of a batch at the final smoothing."""
        return smoothed_loss(model, images, labels, self.smoothing)

    def begin(self, model: nn.Module, course: Course) -> Session:
        """Begin a training, in which the smoothing depends on the epoch."""
        return NegLsSession(self, course)


def smoothed_loss(model: nn.Module, images: Tensor, labels: Tensor, alpha: float) -> LossTerms:
    """Compute the smoothed loss; the curves have the plain loss and alpha."""
    logits = model(images)
    clean = cross_entropy(logits, labels)
    total = clean if alpha == 0 else smoothed_cross_entropy(logits, labels, alpha)
    return LossTerms(
        total=total,
        curves={"clean_loss": clean.detach(), "alpha": clean.detach() * 0 + alpha},
    )


class NegLsSession(Session):
    """A training whose smoothing follows the number of steps."""

    def __init__(self, defense: NegLs, course: Course) -> None:
        super().__init__(defense)
        self.options = defense
        self.course = course
        self.step = 0

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute the loss of a batch at the smoothing of the current epoch."""
        epoch = self.step // self.course.steps_per_epoch
        alpha = self.options.alpha(epoch, self.course.training.epochs)
        return smoothed_loss(model, images, labels, alpha)

    def after_step(self) -> None:
        """Count the step."""
        self.step += 1

    def state_dict(self) -> dict[str, int]:
        """Return the number of steps taken."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restore the number of steps taken."""
        self.step = state["step"]
