"""The interface of a defense: its options, its loss, and a training under it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from atat_ray.data import Faces
from atat_ray.training.checkpoint import Checkpoint
from atat_ray.utils.seeding import BatchDraws

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class LossTerms:
    """The loss of one batch.

    Attributes:
        total: scalar to minimise, a mean over the images.
        curves: detached scalars to record, by name.
    """

    total: Tensor
    curves: dict[str, Tensor]


class Defense(ABC):
    """Options of a defense, its loss, and what it changes about a training.

    A defense is a frozen dataclass of its options, which it checks. :meth:`loss` is required; a
    defense overrides :meth:`prepare` if it changes the target model itself, and :meth:`begin` if
    something besides the model changes during a training.

    Attributes:
        summary: what is minimised, in one line.
        source: the paper, with the equation or section.
        presets: named sets of options. ``reference`` has the values and the behaviour of the
            reference code, the earlier implementation that this project corrects.
    """

    __slots__ = ()

    summary: ClassVar[str]
    source: ClassVar[str]
    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    @abstractmethod
    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute the loss of a batch: (N, C, H, W) in [0, 1] and (N,) long."""

    def prepare(self, model: nn.Module, *, public: Faces | None, seed: int) -> nn.Module:
        """Turn an untrained model into the one that the defense trains; the default returns it.

        Args:
            model: untrained, not wrapped, on its device; new layers may be on the CPU.
            public: images outside every training set, from which initial weights are learned; None
                if only the structure is needed, because trained weights are loaded next.
            seed: of initial weights.

        Raises:
            ValueError: the defense cannot be applied to this model.
        """
        return model

    def begin(self, model: nn.Module, course: "Course") -> "Session":
        """Begin a training; the default session keeps no state."""
        return Session(self)

    def minimal(self) -> Self:
        """Return options that take every step at least once, for a rehearsal."""
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """Description of the training that begins, for a defense.

    Attributes:
        faces: all training images, on every worker.
        training: the schedule, an ``atat_ray.training.Training``.
        steps_per_epoch: batches in an epoch.
        seed: of the training; derive others from it.
    """

    faces: Faces
    training: Any
    steps_per_epoch: int
    seed: int


class Session:
    """One training under a defense; this base class keeps no state."""

    def __init__(self, defense: Defense) -> None:
        self.defense = defense

    def start(self, checkpoint: Checkpoint | None) -> None:
        """Prepare the first step; not called when a training is resumed.

        Args:
            checkpoint: of the training; its file is unused until the first epoch has ended.
        """

    def visible(self, images: Tensor) -> Tensor:
        """Return the training images as the network may see them, before augmentation."""
        return images

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute the loss of a batch."""
        return self.defense.loss(model, images, labels, draws)

    def after_step(self) -> None:
        """Update the state after a step of the optimizer."""

    def has_ended(self, epochs: int) -> bool:
        """Tell whether the training ends after this many epochs, before its schedule does."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """Return the state, besides the model, that the rest of the training depends on."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""


def check_weight(weight: float, name: str = "weight (lambda)") -> None:
    """Refuse a weight below 0.

    Raises:
        ValueError: the weight is negative or NaN.
    """
    if not weight >= 0:
        raise ValueError(f"{name} must be 0 or above, got {weight:g}")
