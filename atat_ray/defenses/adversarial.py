"""Classic adversarial training: train the network to withstand adversarial perturbations."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from atat_ray.models.batch_norm_modes import check_statistics
from atat_ray.robustness.epsilon import check_epsilon
from atat_ray.robustness.pgd import pgd
from atat_ray.training.interface import Defense, LossTerms, check_weight
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import BatchDraws


@dataclass(frozen=True, kw_only=True, slots=True)
class Adversarial(Defense):
    """Options of adversarial training.

    Attributes:
        epsilon: L-infinity radius in pixel units; 0.01 in [-1, 1] of the reference code is 0.005.
        steps: steps of untargeted PGD.
        step_size: in pixel units.
        random_start: whether PGD starts uniformly in the ball.
        clean_weight: weight of CE(f(x), y), which is added to CE(f(x + delta), y); at least 0.
        inner_statistics: batch normalisation inside PGD: "batch", "running" or "moving"; see
            STATISTICS in :mod:`atat_ray.models.batch_norm_modes`.
    """

    epsilon: float
    steps: int
    step_size: float
    random_start: bool
    clean_weight: float = 0.0
    inner_statistics: str = "batch"

    summary: ClassVar[str] = "CE(f(x + delta), y), delta by untargeted PGD"
    source: ClassVar[str] = "Madry et al., ICLR 2018, Eq. 2.1"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "reference": {
            "epsilon": 0.005,
            "steps": 10,
            "step_size": 0.0005,
            "random_start": True,
            "inner_statistics": "moving",
        }
    }
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_epsilon(self.step_size, "step_size")
        check_weight(self.clean_weight, "clean_weight")
        check_statistics(self.inner_statistics)
        if self.steps < 1:
            raise ValueError(
                f"steps must be 1 or more, got {self.steps}; for no PGD use the defense none"
            )

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute ``clean_weight CE(f(x), y) + max CE(f(x + delta), y)`` of a batch."""
        perturbed = pgd(
            model,
            images,
            labels,
            epsilon=self.epsilon,
            steps=self.steps,
            step_size=self.step_size,
            targeted=False,
            random_start=self.random_start,
            draws=draws,
            statistics=self.inner_statistics,
        )
        adversarial = cross_entropy(model(perturbed), labels)
        curves = {"adversarial_loss": adversarial.detach()}
        if self.clean_weight == 0:
            return LossTerms(total=adversarial, curves=curves)
        clean = cross_entropy(model(images), labels)
        return LossTerms(
            total=self.clean_weight * clean + adversarial,
            curves={"clean_loss": clean.detach(), **curves},
        )
