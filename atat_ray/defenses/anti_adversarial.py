"""Anti-adversarial training (AT-AT): learn to be fooled by small targeted perturbations.

The loss is ``CE(f(x), y) + lambda CE(f(x + delta), y')`` with y' a decoy, drawn uniformly from the
wrong classes, and delta the targeted perturbation ``argmin CE(f(x + delta), y')``, ``|delta| <=
epsilon`` ("Reducing information dependency does not cause training data privacy. Adversarially
non-robust features do.", ICLR 2026, Sec. 5).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from atat_ray.defenses.base import Forward, LossTerms, check_weight
from atat_ray.options import STRICT
from atat_ray.perturbation import check_epsilon, pgd
from atat_ray.seeding import BatchDraws


def draw_decoys(labels: Tensor, num_classes: int, draws: BatchDraws) -> Tensor:
    """Draw decoy labels y' exactly uniformly from the other classes: (N,) -> (N,)."""
    return (labels + draws.integers(1, num_classes, labels)) % num_classes


def decoy_loss(
    model: Forward,
    images: Tensor,
    labels: Tensor,
    *,
    weight: float,
    perturb: Callable[[Tensor, Tensor], Tensor],
    draws: BatchDraws,
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
    """
    logits = model(images)
    clean = cross_entropy(logits, labels)
    if weight == 0:
        return LossTerms(total=clean, curves={"clean_loss": clean.detach()})
    decoys = draw_decoys(labels, logits.shape[1], draws)
    decoy_logits = model(perturb(images, decoys))
    adversarial = cross_entropy(decoy_logits, decoys)
    return LossTerms(
        total=clean + weight * adversarial,
        curves={
            "clean_loss": clean.detach(),
            "decoy_loss": adversarial.detach(),
            "decoy_hit_rate": (decoy_logits.argmax(1) == decoys).float().mean(),
        },
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class AntiAdversarial:
    """Options of anti-adversarial training.

    Attributes:
        weight: lambda, at least 0.
        epsilon: L-infinity radius in pixel units; the paper's 0.0005 in [-1, 1] is 0.00025 here.
        steps: steps of targeted PGD.
        step_size: in pixel units.
        random_start: start PGD uniformly in the ball.
    """

    weight: float
    epsilon: float
    steps: int
    step_size: float
    random_start: bool

    summary: ClassVar[str] = "CE(f(x), y) + weight CE(f(x + delta), y'), delta by targeted PGD"
    source: ClassVar[str] = "Reducing information dependency ..., ICLR 2026, Sec. 5"
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        check_weight(self.weight)
        check_epsilon(self.epsilon)
        check_epsilon(self.step_size, "step_size")
        if self.steps < 1:
            raise ValueError(f"steps must be 1 or more, got {self.steps}; see decoy_noise for none")

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute the loss of a batch; the inner PGD sees the model in its present mode."""

        def perturb(images: Tensor, decoys: Tensor) -> Tensor:
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
            )

        return decoy_loss(model, images, labels, weight=self.weight, perturb=perturb, draws=draws)
