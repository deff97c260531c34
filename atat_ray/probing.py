"""Seconds that one image takes in each part of a unit, measured on the device at hand."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from atat_ray.assets import load_block_prior
from atat_ray.data import load_split
from atat_ray.data.splits import Faces
from atat_ray.device import pick_device
from atat_ray.inversion.ppa import optimize
from atat_ray.precision import true_float32
from atat_ray.seeding import BatchDraws, generator
from atat_ray.specification import UnitSpec
from atat_ray.target import new_target
from atat_ray.training import Loop

TIMES = 2  # measured, after one that warms up


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Seconds an image.

    Attributes:
        train: a training step of the defense.
        forward: a pass through the target model.
        gradient: its gradient at the image.
        synthesize: an image of each inversion's prior.
        optimize: a step of each inversion on one candidate.
    """

    train: float
    forward: float
    gradient: float
    synthesize: dict[str, float]
    optimize: dict[str, float]


def each(work: Callable[[], Any], images: int) -> float:
    """Time some work on so many images: seconds an image."""

    def wait() -> float:
        if pick_device().type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    work()
    start = wait()
    for _ in range(TIMES):
        work()
    return (wait() - start) / TIMES / images


def probe(spec: UnitSpec, assets: Path) -> Rates:
    """Measure a unit.

    Args:
        spec: shrunken, as of :func:`atat_ray.rehearsal.shrink`.
        assets: folder of the block's priors, which are made if missing.
    """
    split, device = load_split(spec.block.data, spec.block.split), pick_device()
    faces = split.train.to(device)
    model = new_target(spec, split).to(device).train()
    size = spec.training.batch_size
    long = replace(spec.training, epochs=TIMES + 1)  # the schedule allows so many steps
    with true_float32():
        loop = Loop(model, faces, spec.defense, long, seed=0)
        train = each(lambda: loop.step(torch.arange(size)), size)
    model.eval().requires_grad_(False)
    batch = Faces(images=faces.images[:size], labels=faces.labels[:size]).images[:]
    made = {name: probe_inversion(spec, name, assets, model) for name in spec.inversions}
    return Rates(
        train=train,
        forward=each(lambda: model(batch), size),
        gradient=each(lambda: gradient(model, batch), size),
        synthesize={name: pair[0] for name, pair in made.items()},
        optimize={name: pair[1] for name, pair in made.items()},
    )


def gradient(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Compute the gradient of the largest logits at images (N, C, H, W)."""
    images = images.clone().requires_grad_()
    (found,) = torch.autograd.grad(model(images).amax(1).sum(), images)
    return found


def probe_inversion(
    spec: UnitSpec, inversion: str, assets: Path, model: torch.nn.Module
) -> tuple[float, float]:
    """Measure an inversion attack: an image of its prior, a step on a candidate."""
    ppa = spec.inversions[inversion]
    prior = load_block_prior(spec.block, inversion, assets).to(pick_device())
    latents = prior.sample_latents(ppa.candidates, generator(0))
    classes = torch.zeros(len(latents), dtype=torch.long, device=latents.device)

    def step() -> None:
        draws = BatchDraws(generator(0))
        optimize(model, prior, latents, classes, replace(ppa, steps=1), draws)

    with torch.no_grad():
        made = each(lambda: prior.synthesize(latents), len(latents))
    return made, each(step, len(latents))
