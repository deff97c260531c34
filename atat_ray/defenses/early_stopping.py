"""Early stopping: plain training that ends after a share of its epochs."""

from dataclasses import dataclass
from math import ceil
from typing import ClassVar

from torch import nn

from atat_ray.training.interface import Course, Session
from atat_ray.training.no_defense import NoDefense
from atat_ray.utils.option_fields import STRICT


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlyStopping(NoDefense):
    """Options of early stopping.

    Learning rates are those of the whole schedule, so the network is the one that plain training
    has after as many epochs.

    Attributes:
        share: of the epochs that are trained, in (0, 1); their number is rounded up.
    """

    share: float

    summary: ClassVar[str] = "plain training that ends early, a control: less accurate, no decoys"
    source: ClassVar[str] = "Generalization and parameter estimation ..., NeurIPS 1989"
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share is a share of the epochs in (0, 1), got {self.share:g}")

    def begin(self, model: nn.Module, course: Course) -> Session:
        """Begin a training that ends after a share of the epochs of its schedule."""
        return _Stopped(self, ceil(self.share * course.training.epochs))


class _Stopped(Session):
    """A training that ends after ``last`` epochs."""

    def __init__(self, defense: EarlyStopping, last: int) -> None:
        super().__init__(defense)
        self.last = last

    def has_ended(self, epochs: int) -> bool:
        """Tell whether the training ends after this many epochs."""
        return epochs >= self.last
