"""Robust accuracy under AutoAttack. No other file imports pyautoattack."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from atat_ray.data import Faces
from atat_ray.data.stored_images import StoredImages
from atat_ray.models.bottleneck import reseed
from atat_ray.robustness.attack_sets import ATTACK_SETS, GRADIENT_ATTACKS, AttackSet, check_classes
from atat_ray.robustness.epsilon import check_epsilon
from atat_ray.utils.errors import unknown
from atat_ray.utils.hashing import specification_hash
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.precision import assert_true_float32, true_float32
from atat_ray.utils.stage_files import load_stage, save_stage


@dataclass(frozen=True, kw_only=True, slots=True)
class Robustness:
    """Options of robust accuracy, which is measured on the private test images.

    Attributes:
        attacks: a key of ATTACK_SETS.
        epsilons: L-infinity radii in pixel units.
        eot: gradients averaged in each step of APGD (expectation over transformation); above 1 for
            networks that draw noise.
        chunk: images attacked at a time. The results of finished chunks survive an interruption.
    """

    attacks: str
    epsilons: tuple[float, ...]
    eot: int = 1
    chunk: int = 256

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if self.attacks not in ATTACK_SETS:
            raise unknown("attack set", self.attacks, ATTACK_SETS)
        for epsilon in self.epsilons:
            check_epsilon(epsilon)
        if self.eot < 1 or self.chunk < 1:
            raise ValueError(f"eot and chunk must be 1 or more, got {self.eot} and {self.chunk}")
        others = [a for a in ATTACK_SETS[self.attacks].attacks if a not in GRADIENT_ATTACKS]
        if self.eot > 1 and others:
            raise ValueError(
                f"eot above 1 needs attacks that average gradients, which {', '.join(others)} of "
                f"{self.attacks!r} do not; use the attack set rand"
            )


@contextmanager
def preserve_global_state() -> Iterator[None]:
    """Restore the global state that pyautoattack changes: torch's seed and the trace function."""
    trace = sys.gettrace()
    devices = list(range(torch.cuda.device_count()))
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        sys.settrace(trace)


def check_attacked(images: Tensor, epsilon: float) -> None:
    """Refuse images that AutoAttack would change or perturb wrongly without an error.

    Raises:
        ValueError: images are outside [0, 1], or TF32 is on.
    """
    check_epsilon(epsilon)
    assert_true_float32(images)
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        raise ValueError(
            f"images must be in [0, 1], got [{low:.3f}, {high:.3f}]; "
            "put normalization in the model, because AutoAttack clamps silently"
        )


def run_attack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    attack: str,
    *,
    epsilon: float,
    settings: AttackSet,
    num_classes: int,
    seed: int,
    eot: int,
) -> Tensor:
    """Run one attack of AutoAttack; return which images it does not fool: (N,) bool."""
    from pyautoattack import AutoAttack

    with preserve_global_state():
        runner = AutoAttack(
            model,
            version="custom",
            attacks=[attack],  # type: ignore[arg-type]
            device=images.device,
            eps=epsilon,
            norm="Linf",
            seed=seed % 2**32,
        )
        runner.verbose = False
        runner.apgd.n_restarts = runner.fab.n_restarts = 1
        runner.apgd.n_iter = runner.apgd_targeted.n_iter = settings.iterations
        runner.fab.n_iter, runner.square.n_queries = settings.fab_iterations, settings.queries
        runner.apgd.eot_iter = runner.apgd_targeted.eot_iter = eot
        targets = min(settings.target_classes, num_classes - 1)
        runner.apgd_targeted.n_target_classes = runner.fab.n_target_classes = targets
        perturbed, _ = runner.run_standard_evaluation(images, labels, batch_size=len(images))
    moved = float((perturbed - images).abs().max())
    assert moved <= epsilon + 1e-6, f"AutoAttack moved a pixel by {moved}, epsilon is {epsilon}"
    with torch.no_grad():
        return model(perturbed).argmax(1) == labels


def robust_mask(
    model: nn.Module,
    images: Tensor | StoredImages,
    labels: Tensor,
    *,
    epsilon: float,
    attacks: str,
    num_classes: int,
    seed: int,
    eot: int = 1,
    chunk: int = 256,
    part: int | None = None,
    keep: tuple[Path, str] | None = None,
) -> Tensor:
    """Compute which images stay correctly classified under every attack of a set.

    Each attack runs on the images that the attacks before it did not fool.

    Args:
        model: images in [0, 1] to logits; attacked in evaluation mode.
        images: (N, C, H, W) float32 in [0, 1].
        labels: (N,) long.
        epsilon: L-infinity radius in pixel units.
        attacks: a key of ATTACK_SETS.
        num_classes: number of logits.
        seed: of random starts.
        eot: gradients averaged in each step of APGD.
        chunk: images attacked at a time.
        part: number of the only chunk to attack, from 0; None for all chunks.
        keep: folder, and a hash of all that the model depends on. The result of an attack on a
            chunk is stored there and not computed again.

    Returns:
        (N,) bool, of the images of the part.

    Raises:
        ValueError: images are outside [0, 1], there are too few classes for the attacks, or TF32
            is on.
    """
    check_classes(attacks, num_classes)
    was_training = model.training
    model.eval()
    options = {"epsilon": epsilon, "num_classes": num_classes, "seed": seed, "eot": eot}
    parts = []
    for number, rows in enumerate(torch.arange(len(images)).split(chunk)):
        if part not in (None, number):
            continue
        x = images[rows]
        check_attacked(x, epsilon)
        settings = ATTACK_SETS[attacks]
        parts.append(attack_chunk(model, x, labels[rows], settings, options, (number, chunk), keep))
    model.train(was_training)
    return torch.cat(parts)


def attack_chunk(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    settings: AttackSet,
    options: dict[str, Any],
    chunk: tuple[int, int],
    keep: tuple[Path, str] | None,
) -> Tensor:
    """Attack one chunk with every attack of a set; see :func:`robust_mask`.

    Args:
        model: in evaluation mode.
        images: (N, C, H, W) in [0, 1].
        labels: (N,) long.
        settings: the set.
        options: arguments of :func:`run_attack` besides the attack and its set.
        chunk: number and size of the chunk, which enter the name of the stored results.
        keep: folder, and a hash of all that the model depends on.

    Returns:
        (N,) bool, True where no attack succeeds.
    """
    seed, number = options["seed"], chunk[0]
    reseed(model, seed, "clean", number)
    with torch.no_grad():
        left = model(images).argmax(1) == labels
    for attack in settings.attacks:
        key = specification_hash(keep and keep[1], attack, settings, options, *chunk)
        path = keep and keep[0] / f"{options['epsilon']:g}-{attack}-{number}.pt"
        kept = path and load_stage(path, key)
        if kept:
            left = kept["left"].to(left.device)
        elif left.any():
            reseed(model, seed, attack, f"{options['epsilon']:g}", number)
            found = run_attack(
                model, images[left], labels[left], attack, settings=settings, **options
            )
            left = left.clone()
            left[left.clone()] = found
        if path and not kept:
            save_stage(path, key, {"left": left.cpu()})
    return left


def robust_masks(
    model: nn.Module,
    faces: Faces,
    robustness: Robustness,
    *,
    num_classes: int,
    seed: int,
    part: int | None = None,
    keep: tuple[Path, str] | None = None,
) -> dict[float, Tensor]:
    """Compute which images stay correctly classified, for each epsilon of the settings.

    Args:
        model: images in [0, 1] to logits.
        faces: images and labels; the private test images.
        robustness: the settings.
        num_classes: number of logits.
        seed: of random starts.
        part: number of the only chunk to attack; None for all chunks.
        keep: folder and hash of stored results; see :func:`robust_mask`.

    Returns:
        (N,) bool by epsilon (pixel units), of the images of the part.
    """
    with true_float32():
        return {
            epsilon: robust_mask(
                model,
                faces.images,
                faces.labels,
                epsilon=epsilon,
                attacks=robustness.attacks,
                num_classes=num_classes,
                seed=seed,
                eot=robustness.eot,
                chunk=robustness.chunk,
                part=part,
                keep=keep,
            )
            for epsilon in robustness.epsilons
        }


def robust_accuracies(parts: Sequence[dict[float, Tensor]]) -> dict[float, float]:
    """Compute robust accuracy at each epsilon from the masks of all parts."""
    return {
        epsilon: float(torch.cat([part[epsilon] for part in parts]).float().mean())
        for epsilon in parts[0]
    }
