"""Placebo of anti-adversarial training: the same decoys and weight, but uniform noise for delta.

A comparison of anti-adversarial with plain training mixes the effect of label noise with that of
non-robust features. A comparison with this arm isolates the effect of non-robust features.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from atat_ray.defenses.decoys import decoy_loss
from atat_ray.robustness.epsilon import check_epsilon
from atat_ray.robustness.pgd import project
from atat_ray.training.interface import Defense, Forward, LossTerms, check_weight
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import BatchDraws


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoyNoise(Defense):
    """Options of the placebo.

    Attributes:
        weight: lambda, at least 0.
        epsilon: delta is uniform in [-epsilon, epsilon], pixel units.
    """

    weight: float
    epsilon: float

    summary: ClassVar[str] = "CE(f(x), y) + weight CE(f(x + delta), y'), delta uniform noise"
    source: ClassVar[str] = "the placebo of anti_adversarial, this project"
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        check_weight(self.weight)
        check_epsilon(self.epsilon)

    def loss(self, model: Forward, images: Tensor, labels: Tensor, draws: BatchDraws) -> LossTerms:
        """Compute the loss of a batch."""

        def perturb(images: Tensor, decoys: Tensor) -> Tensor:
            noise = draws.uniform(-self.epsilon, self.epsilon, images, *images.shape[1:])
            return project(images + noise, images, self.epsilon)

        return decoy_loss(model, images, labels, weight=self.weight, perturb=perturb, draws=draws)
