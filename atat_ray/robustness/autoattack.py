"""Robust accuracy under AutoAttack; the only file that imports pyautoattack."""

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
from atat_ray.utils.option_fields import STRICT, later
from atat_ray.utils.precision import assert_true_float32, true_float32
from atat_ray.utils.stage_files import load_stage, save_stage


@dataclass(frozen=True, kw_only=True, slots=True)
class Robustness:
    """How robust accuracy is measured, on the private test images.

    Attributes:
        attacks: a key of ATTACK_SETS.
        epsilons: L-infinity radii in pixel units.
        eot: gradients averaged in each step of APGD (expectation over transformation); above 1 for
            networks that draw noise.
        chunk: images attacked at a time, and kept when a measurement is cut off.
    """

    attacks: str
    epsilons: tuple[float, ...]
    eot: int = later(1)
    chunk: int = later(256)

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
                f"eot is for attacks that average gradients, and {', '.join(others)} of "
                f"{self.attacks!r} does not; use rand"
            )


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


def check_attacked(images: Tensor, epsilon: float) -> None:
    """Refuse what AutoAttack would silently misread.

    Raises:
        ValueError: images outside [0, 1], TF32 on.
    """
    check_epsilon(epsilon)
    assert_true_float32(images)
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        raise ValueError(
            f"images must be in [0, 1], got [{low:.3f}, {high:.3f}]; "
            "put normalization in the model, AutoAttack clamps without a word"
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
    """Run one attack of AutoAttack; tell which images resist it: (N,) bool."""
    from pyautoattack import AutoAttack

    with contained():
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


def resists(
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
    """Tell which images stay rightly classified under AutoAttack, each attack on those left.

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
        part: the chunk that is attacked, counted from 0; all of them if not given.
        keep: folder, and a hash of all that the model depends on. What an attack finds on a chunk
            is kept there, and not computed again.

    Returns:
        (N,) bool, of the images of the part.

    Raises:
        ValueError: images outside [0, 1], too few classes for the attacks, TF32 on.
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
        place = (number, chunk)
        settings = ATTACK_SETS[attacks]
        parts.append(resists_all(model, x, labels[rows], settings, options, place, keep))
    model.train(was_training)
    return torch.cat(parts)


def resists_all(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    settings: AttackSet,
    options: dict[str, Any],
    place: tuple[int, int],
    keep: tuple[Path, str] | None,
) -> Tensor:
    """Tell which images of one chunk resist every attack of a set; see :func:`resists`.

    Args:
        model: in evaluation mode.
        images: (N, C, H, W) in [0, 1].
        labels: (N,) long.
        settings: the set.
        options: of :func:`run_attack`, beside the attack and its set.
        place: number and size of the chunk, which name what is kept of it.
        keep: folder, and a hash of all that the model depends on.
    """
    seed, number = options["seed"], place[0]
    reseed(model, seed, "clean", number)
    with torch.no_grad():
        left = model(images).argmax(1) == labels
    for attack in settings.attacks:
        key = specification_hash(keep and keep[1], attack, settings, options, *place)
        path = keep and keep[0] / f"{options['epsilon']:g}-{attack}-{place[0]}.pt"
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


def resisting(
    model: nn.Module,
    faces: Faces,
    robustness: Robustness,
    *,
    num_classes: int,
    seed: int,
    part: int | None = None,
    keep: tuple[Path, str] | None = None,
) -> dict[float, Tensor]:
    """Tell which images resist at each epsilon (pixel units) of the settings.

    Args:
        model: images in [0, 1] to logits.
        faces: images and labels; the private test images.
        robustness: the settings.
        num_classes: number of logits.
        seed: of random starts.
        part: the chunk of images that is attacked, all if not given.
        keep: folder and hash for what is done already; see :func:`resists`.

    Returns:
        (N,) bool by epsilon, of the images of the part.
    """
    with true_float32():
        return {
            epsilon: resists(
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
    """Give robust accuracy at each epsilon from which images resist, part by part."""
    return {
        epsilon: float(torch.cat([part[epsilon] for part in parts]).float().mean())
        for epsilon in parts[0]
    }
