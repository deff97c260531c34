"""Robust accuracy under AutoAttack; the only file that imports pyautoattack."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atat_ray.data.splits import Faces
from atat_ray.names import unknown
from atat_ray.options import STRICT
from atat_ray.perturbation import check_epsilon
from atat_ray.precision import assert_true_float32, true_float32


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackSet:
    """A named part of AutoAttack.

    Attributes:
        attacks: names in pyautoattack, run in this order on the images that still resist.
        iterations: of APGD.
        target_classes: wrong classes that targeted attacks try, at most num_classes - 1.
    """

    attacks: tuple[str, ...]
    iterations: int
    target_classes: int = 9


ATTACK_SETS = {
    # benchmarks/robustness.py compares it with "standard" on one unit of each arm.
    "apgd-10": AttackSet(attacks=("apgd-ce", "apgd-dlr"), iterations=10),
    "standard": AttackSet(attacks=("apgd-ce", "apgd-t", "fab-t", "square"), iterations=100),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Robustness:
    """How robust accuracy is measured, on the private test images.

    Attributes:
        attacks: a key of ATTACK_SETS.
        epsilons: L-infinity radii in pixel units.
    """

    attacks: str
    epsilons: tuple[float, ...]

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if self.attacks not in ATTACK_SETS:
            raise unknown("attack set", self.attacks, ATTACK_SETS)
        for epsilon in self.epsilons:
            check_epsilon(epsilon)


@contextmanager
def contained() -> Iterator[None]:
    """Keep what pyautoattack does to global state inside: it reseeds torch and drops tracing."""
    trace = sys.gettrace()
    devices = list(range(torch.cuda.device_count()))
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        sys.settrace(trace)


def resists(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    attacks: str,
    num_classes: int,
    seed: int,
) -> Tensor:
    """Tell which images stay rightly classified under AutoAttack.

    Args:
        model: images in [0, 1] to logits; attacked in evaluation mode.
        images: (N, C, H, W) float32 in [0, 1].
        labels: (N,) long.
        epsilon: L-infinity radius in pixel units.
        attacks: a key of ATTACK_SETS.
        num_classes: number of logits, at least 4.
        seed: of random starts.

    Returns:
        (N,) bool.

    Raises:
        ValueError: images outside [0, 1], too few classes, TF32 on.
    """
    from pyautoattack import AutoAttack

    check_epsilon(epsilon)
    assert_true_float32(images)
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        raise ValueError(
            f"images must be in [0, 1], got [{low:.3f}, {high:.3f}]; "
            "put normalization in the model, AutoAttack clamps without a word"
        )
    if num_classes < 4:
        raise ValueError(f"AutoAttack's DLR losses need 4 classes or more, got {num_classes}")
    settings = ATTACK_SETS[attacks]
    was_training = model.training
    model.eval()
    with contained():
        runner = AutoAttack(
            model,
            version="custom",
            attacks=list(settings.attacks),  # type: ignore[arg-type]
            device=images.device,
            eps=epsilon,
            norm="Linf",
            seed=seed % 2**32,
        )
        runner.verbose = False
        runner.apgd.n_restarts = runner.fab.n_restarts = 1
        runner.apgd.n_iter = runner.apgd_targeted.n_iter = settings.iterations
        targets = min(settings.target_classes, num_classes - 1)
        runner.apgd_targeted.n_target_classes = runner.fab.n_target_classes = targets
        perturbed, _ = runner.run_standard_evaluation(images, labels, batch_size=len(images))
    moved = float((perturbed - images).abs().max())
    assert moved <= epsilon + 1e-6, f"AutoAttack moved a pixel by {moved}, epsilon is {epsilon}"
    with torch.no_grad():
        right = model(perturbed).argmax(1) == labels
    model.train(was_training)
    return right


def robust_accuracies(
    model: nn.Module, faces: Faces, robustness: Robustness, *, num_classes: int, seed: int
) -> dict[float, float]:
    """Measure robust accuracy at each epsilon (pixel units) of the settings."""
    with true_float32():
        return {
            epsilon: float(
                resists(
                    model,
                    faces.images,
                    faces.labels,
                    epsilon=epsilon,
                    attacks=robustness.attacks,
                    num_classes=num_classes,
                    seed=seed,
                )
                .float()
                .mean()
            )
            for epsilon in robustness.epsilons
        }
