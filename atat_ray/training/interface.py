"""What every defense is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

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
        curves: scalars worth recording, detached, by name.
    """

    total: Tensor
    curves: dict[str, Tensor]


class Defense(Protocol):
    """Options of a defense, and its loss.

    Two more methods are looked for by :func:`prepare` and :func:`begin`: ``prepare(model, *,
    public, seed)`` where the target model itself is another one, and ``begin(model, course)`` where
    something beside the model changes during a training. A class may name settings in ``presets``;
    the one called ``reference`` has the values and the behaviour of the earlier code.
    """

    summary: ClassVar[str]
    source: ClassVar[str]

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute the loss of a batch: (N, C, H, W) in [0, 1] and (N,) long."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """What a defense may know of the training that begins.

    Attributes:
        faces: the training images, all of them on every worker.
        training: the schedule, an ``atat_ray.training.Training``.
        steps_per_epoch: batches in an epoch.
        seed: of the training; derive others from it.
    """

    faces: Faces
    training: Any
    steps_per_epoch: int
    seed: int


class Session:
    """One training under a defense; the base class is that of a defense that keeps no state."""

    def __init__(self, defense: Defense) -> None:
        self.defense = defense

    def start(self, checkpoint: Checkpoint | None) -> None:
        """Do what comes before the first step; left out where a training goes on.

        Args:
            checkpoint: of the training, whose file is free until its first epoch.
        """

    def visible(self, images: Tensor) -> Tensor:
        """Show the training images that the network may see, before they are varied."""
        return images

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute the loss of a batch."""
        return self.defense.loss(model, images, labels, draws)

    def after_step(self) -> None:
        """Do what follows a step of the optimizer."""

    def state_dict(self) -> dict[str, Any]:
        """Return what the rest of the training depends on, beside the model."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state_dict`` left off."""


def begin(defense: Defense, model: nn.Module, course: Course) -> Session:
    """Begin a training under a defense."""
    method = getattr(defense, "begin", None)
    return Session(defense) if method is None else method(model, course)


def prepare(defense: Defense, model: nn.Module, *, public: Faces | None, seed: int) -> nn.Module:
    """Make of an untrained model the one that a defense trains.

    Args:
        defense: most need nothing, and the model is returned as it came.
        model: untrained, not wrapped, on its device; new layers of it may be on the CPU.
        public: images in nobody's training set, to learn initial weights from; None if only the
            structure is wanted, because trained weights are loaded next.
        seed: of initial weights.

    Raises:
        ValueError: the defense cannot apply to this model.
    """
    method = getattr(defense, "prepare", None)
    return model if method is None else method(model, public=public, seed=seed)


def check_weight(weight: float, name: str = "weight (lambda)") -> None:
    """Refuse a weight below 0.

    Raises:
        ValueError: it is negative or not a number.
    """
    if not weight >= 0:
        raise ValueError(f"{name} must be 0 or above, got {weight:g}")
