"""Anti-adversarial training (AT-AT): learn to be fooled by small targeted perturbations.

The loss is ``CE(f(x), y) + lambda CE(f(x + delta), y')`` with y' a decoy, drawn uniformly from the
wrong classes, and delta the targeted perturbation ``argmin CE(f(x + delta), y')``, ``|delta| <=
epsilon`` ("Reducing information dependency does not cause training data privacy. Adversarially
non-robust features do.", ICLR 2026, Sec. 5).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from atat_ray.data.splits import Faces
from atat_ray.defenses.base import Forward, LossTerms, check_weight
from atat_ray.defenses.label_smoothing import check_smoothing
from atat_ray.models.inner import head
from atat_ray.models.split_norm import adversarial_statistics, split_statistics
from atat_ray.names import unknown
from atat_ray.options import STRICT, later
from atat_ray.perturbation import check_epsilon, check_statistics, frozen_statistics, pgd
from atat_ray.seeding import BatchDraws


def draw_decoys(labels: Tensor, num_classes: int, draws: BatchDraws) -> Tensor:
    """Draw decoy labels y' exactly uniformly from the other classes: (N,) -> (N,)."""
    return (labels + draws.integers(1, num_classes, labels)) % num_classes


def draw_reference_decoys(labels: Tensor, num_classes: int, draws: BatchDraws) -> Tensor:
    """Draw decoys as earlier code did: of all classes, and y + 1 where that gave y.

    The class after the right one is then twice as likely as each other.
    """
    drawn = draws.integers(0, num_classes, labels)
    return torch.where(drawn == labels, (labels + 1) % num_classes, drawn)


DECOYS = {"uniform": draw_decoys, "reference": draw_reference_decoys}

# What the pass over x + delta does to batch normalisation.
PASSES: dict[str, Callable[[Any], AbstractContextManager[object]]] = {
    "shared": nullcontext,  # a batch of its own, which moves the running statistics too
    "frozen": frozen_statistics,  # a batch of its own, which does not
    "split": adversarial_statistics,  # layers of its own, unused after training (AdvProp)
    "joint": nullcontext,  # one batch with the clean images
}


def decoy_loss(
    model: Forward,
    images: Tensor,
    labels: Tensor,
    *,
    weight: float,
    perturb: Callable[[Tensor, Tensor], Tensor],
    draws: BatchDraws,
    smoothing: float = 0.0,
    decoys: str = "uniform",
    adversarial_pass: str = "shared",
    num_classes: int | None = None,
) -> LossTerms:
    """Compute ``CE(f(x), y) + weight CE(f(perturb(x, y')), y')`` over a batch.

    With weight 0 nothing is perturbed and nothing is drawn: that is plain training.

    Args:
        model: images to logits, in training mode.
        images: (N, C, H, W) in [0, 1].
        labels: (N,) long.
        weight: lambda, at least 0.
        perturb: (images, decoys) -> images of the second term; treated as constant.
        draws: randomness of the decoys.
        smoothing: label smoothing of the second term.
        decoys: a key of DECOYS.
        adversarial_pass: a key of PASSES.
        num_classes: number of logits; needed by the joint pass.
    """
    joint = adversarial_pass == "joint" and weight != 0
    logits = None if joint else model(images)
    if weight == 0:
        assert logits is not None
        clean = cross_entropy(logits, labels)
        return LossTerms(total=clean, curves={"clean_loss": clean.detach()})
    classes = num_classes if logits is None else logits.shape[1]
    assert classes is not None, "the joint pass is told the number of classes"
    wrong = DECOYS[decoys](labels, classes, draws)
    perturbed = perturb(images, wrong)
    if logits is None:
        logits, decoy_logits = model(torch.cat([images, perturbed])).chunk(2)
    else:
        with PASSES[adversarial_pass](model):
            decoy_logits = model(perturbed)
    clean = cross_entropy(logits, labels)
    adversarial = cross_entropy(decoy_logits, wrong, label_smoothing=smoothing)
    return LossTerms(
        total=clean + weight * adversarial,
        curves={
            "clean_loss": clean.detach(),
            "decoy_loss": adversarial.detach(),
            "decoy_hit_rate": (decoy_logits.argmax(1) == wrong).float().mean(),
        },
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class AntiAdversarial:
    """Options of anti-adversarial training. One step of size epsilon is the single-step variant.

    Attributes:
        weight: lambda, at least 0.
        epsilon: L-infinity radius in pixel units; the paper's 0.0005 in [-1, 1] is 0.00025 here.
        steps: steps of targeted PGD.
        step_size: in pixel units.
        random_start: start PGD uniformly in the ball.
        decoys: "uniform" over the wrong classes; "reference" has y + 1 twice as often.
        inner_statistics: what batch normalisation does inside PGD: "batch", "running", "moving".
        adversarial_pass: what the pass over x + delta does to it: "shared", "frozen", "split" or
            "joint".
        smoothing: label smoothing of the decoy term, in [0, 1).
        grid: cells along each side that delta is constant in; none for single pixels.
    """

    weight: float
    epsilon: float
    steps: int
    step_size: float
    random_start: bool
    decoys: str = later("uniform")
    inner_statistics: str = later("batch")
    adversarial_pass: str = later("shared")
    smoothing: float = later(0.0)
    grid: int | None = later(None)

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
            raise unknown("way to draw decoys", self.decoys, DECOYS)
        if self.adversarial_pass not in PASSES:
            raise unknown("adversarial pass", self.adversarial_pass, PASSES)
        if self.grid is not None and self.grid < 1:
            raise ValueError(f"grid must be 1 cell or more along each side, got {self.grid}")
        if self.steps < 1:
            raise ValueError(f"steps must be 1 or more, got {self.steps}; see decoy_noise for none")

    def prepare(self, model: nn.Module, *, public: Faces | None, seed: int) -> nn.Module:
        """Give the decoy term batch normalisation of its own where the options say so."""
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
