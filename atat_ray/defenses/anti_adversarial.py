"""Anti-adversarial training (AT-AT): train the network to follow small targeted perturbations.

The loss is ``CE(f(x), y) + lambda CE(f(x + delta), y')``. y' is a decoy label, drawn uniformly from
the wrong classes, and delta is the targeted perturbation ``argmin CE(f(x + delta), y')`` with
``|delta| <= epsilon`` ("Reducing information dependency does not cause training data privacy.
Adversarially non-robust features do.", ICLR 2026, Sec. 5).
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from atat_ray.data import Faces
from atat_ray.defenses.decoys import DECOYS, PASSES, decoy_loss
from atat_ray.defenses.label_smoothing import check_smoothing
from atat_ray.models.batch_norm_modes import check_statistics
from atat_ray.models.layer_access import head
from atat_ray.models.split_batch_norm import split_statistics
from atat_ray.robustness.epsilon import check_epsilon
from atat_ray.robustness.pgd import pgd
from atat_ray.training.interface import Defense, LossTerms, check_weight
from atat_ray.utils.errors import unknown
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import BatchDraws


@dataclass(frozen=True, kw_only=True, slots=True)
class AntiAdversarial(Defense):
    """Options of anti-adversarial training; one step of size epsilon is the single-step variant.

    Attributes:
        weight: lambda, at least 0.
        epsilon: L-infinity radius in pixel units; the paper's 0.0005 in [-1, 1] is 0.00025 here.
        steps: steps of targeted PGD.
        step_size: in pixel units.
        random_start: whether PGD starts uniformly in the ball.
        decoys: "uniform" over the wrong classes, or "reference", which draws y + 1 twice as often.
        inner_statistics: batch normalisation inside PGD: "batch", "running" or "moving"; see
            STATISTICS in :mod:`atat_ray.models.batch_norm_modes`.
        adversarial_pass: batch normalisation in the pass over x + delta: "shared", "frozen",
            "split" or "joint"; see PASSES.
        smoothing: label smoothing of the decoy term, in [0, 1).
        grid: cells along each side, in each of which delta is constant; None for single pixels.
    """

    weight: float
    epsilon: float
    steps: int
    step_size: float
    random_start: bool
    decoys: str = "uniform"
    inner_statistics: str = "batch"
    adversarial_pass: str = "shared"
    smoothing: float = 0.0
    grid: int | None = None

    summary: ClassVar[str] = "CE(f(x), y) + weight CE(f(x + delta), y'), delta by targeted PGD"
    source: ClassVar[str] = "Reducing information dependency ..., ICLR 2026, Sec. 5"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "reference": {
            "weight": 0.08,
            "epsilon": 0.00025,
            "steps": 5,
            "step_size": 0.00005,
            "random_start": True,
            "decoys": "reference",
            "inner_statistics": "moving",
        }
    }
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        check_weight(self.weight)
        check_epsilon(self.epsilon)
        check_epsilon(self.step_size, "step_size")
        check_statistics(self.inner_statistics)
        check_smoothing(self.smoothing)
        if self.decoys not in DECOYS:
            raise unknown("rule for decoys", self.decoys, DECOYS)
        if self.adversarial_pass not in PASSES:
            raise unknown("adversarial pass", self.adversarial_pass, PASSES)
        if self.grid is not None and self.grid < 1:
            raise ValueError(f"grid must be 1 cell or more along each side, got {self.grid}")
        if self.steps < 1:
            raise ValueError(
                f"steps must be 1 or more, got {self.steps}; for no PGD use decoy_noise"
            )

    def prepare(self, model: nn.Module, *, public: Faces | None, seed: int) -> nn.Module:
        """Add separate batch normalisation for the decoy term if the pass is "split"."""
        split = self.adversarial_pass == "split" and self.weight > 0
        return split_statistics(model) if split else model

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute the loss of a batch."""

        joint = self.adversarial_pass == "joint"

        def perturb(images: Tensor, decoys: Tensor) -> Tensor:
            with PASSES["split"](model) if self.adversarial_pass == "split" else nullcontext():
                return pgd(
                    model,
                    images,
                    decoys,
                    epsilon=self.epsilon,
                    steps=self.steps,
                    step_size=self.step_size,
                    targeted=True,
                    random_start=self.random_start,
                    draws=draws,
                    statistics=self.inner_statistics,
                    grid=self.grid,
                )

        return decoy_loss(
            model,
            images,
            labels,
            weight=self.weight,
            perturb=perturb,
            draws=draws,
            smoothing=self.smoothing,
            decoys=self.decoys,
            adversarial_pass=self.adversarial_pass,
            num_classes=head(model, "the joint pass").out_features if joint else None,
        )
