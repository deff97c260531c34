"""Training schedule: epochs, batches, optimizer, augmentation and precision."""

from dataclasses import dataclass

from atat_ray.data.augmentation import Augmentation
from atat_ray.models import check_architecture
from atat_ray.training.interface import Defense
from atat_ray.training.no_defense import NoDefense
from atat_ray.utils.errors import unknown
from atat_ray.utils.option_fields import STRICT

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """Options of training a target model: AdamW with a one-cycle learning rate.

    Attributes:
        epochs: passes over the training images.
        batch_size: images of a step, over all workers; an incomplete last batch is dropped.
        learning_rate: peak of the one-cycle schedule.
        weight_decay: of AdamW.
        warmup: share of the steps in which the learning rate rises.
        augmentation: ranges of the augmentation of training images.
        weights: initial weights: "none" (drawn) or "imagenet" (from torch.hub's cache).
        auxiliary_weight: weight of the loss of the auxiliary head, if the architecture has one.
        precision: of forward passes: "float32", or "bfloat16" for training without a defense, such
            as that of evaluation models.
        thresholds: clean accuracies at which the target model is stored as well, for inspection.
            This selection happens after treatment, so no randomised comparison may use it.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup: float = 0.15
    augmentation: Augmentation = Augmentation()  # noqa: RUF009
    weights: str = "none"
    auxiliary_weight: float = 0.0
    precision: str = "float32"
    thresholds: tuple[float, ...] = ()

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError(
                f"epochs must be 1 or more and batch_size 2 or more, "
                f"got {self.epochs} and {self.batch_size}"
            )
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise ValueError(
                f"learning_rate must be above 0 and weight_decay 0 or above, "
                f"got {self.learning_rate:g} and {self.weight_decay:g}"
            )
        if not 0 < self.warmup < 1:
            raise ValueError(f"warmup is a share of the steps in (0, 1), got {self.warmup:g}")
        if not self.auxiliary_weight >= 0:
            raise ValueError(f"auxiliary_weight must be 0 or above, got {self.auxiliary_weight:g}")
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if not all(0 < threshold < 1 for threshold in self.thresholds):
            raise ValueError(f"thresholds are accuracies in (0, 1), got {self.thresholds}")


def check_network(architecture: str, training: Training) -> None:
    """Refuse an architecture that cannot be built with the options of a training.

    Raises:
        ValueError: the architecture is unknown, or has no such weights or no auxiliary head.
    """
    auxiliary = training.auxiliary_weight > 0
    check_architecture(architecture, weights=training.weights, auxiliary=auxiliary)


def check_precision(training: Training, defense: Defense) -> None:
    """Refuse to train with a defense in less than float32.

    bfloat16 has a spacing of 1/256 at a pixel near 1. It would round away perturbations below a
    gray level, and the arms of a trial would differ in more than their defense.

    Raises:
        ValueError: the precision is not float32 and there is a defense.
    """
    if training.precision != "float32" and type(defense) is not NoDefense:
        raise ValueError(
            f"precision {training.precision} is for training without a defense, such as that of "
            f"evaluation models, and would change what {type(defense).__name__} does; use float32"
        )
