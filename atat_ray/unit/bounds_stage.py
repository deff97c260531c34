"""The bounds stage: how well the image given to a target model can be estimated under noise.

The network is fixed and the secret is the image given to it: mechanism (b) of
:mod:`atat_ray.dependence.fisher`. Test images are measured, because a learned mask is a function of
the training images; given the network, it is fixed for others.
"""

import time
from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from torch import Tensor, nn

from atat_ray.data import load_split
from atat_ray.dependence.bounds import RowSpace, row_space, search_hcr, unit_steps
from atat_ray.dependence.fisher import (
    Release,
    dfil,
    eta,
    exact_trace,
    hutchinson_trace,
    jacobian,
    spectral_norm,
)
from atat_ray.models.bottleneck import bottlenecks
from atat_ray.models.image_layers import PixelMask
from atat_ray.unit.bounds_options import Bounds
from atat_ray.unit.jobs import RunJobs, run_serially
from atat_ray.unit.spec import UnitSpec
from atat_ray.unit.train_stage import load_target
from atat_ray.utils.device import pick_device
from atat_ray.utils.seeding import derive_seed, generator
from atat_ray.utils.stage_files import load_stage, save_stage

DENSE = 2**24  # numbers of a Jacobian up to which it is computed whole
REACH = 0.5  # largest change of a pixel; towards the middle of [0, 1], it never leaves the range

Values = dict[str, list[float]]
"""Values by name of the outcome, over images and pixels."""


def deterministic(model: nn.Module, layer: str) -> Release:
    """Return what a network releases as a function in float64, without noise of its own.

    Args:
        model: target model; it is copied.
        layer: "features" or "outputs". A network without features, such as that of a diverged unit,
            releases its outputs.
    """
    copy = deepcopy(model).double().eval().requires_grad_(False)
    for bottleneck in bottlenecks(copy):
        bottleneck.always = False
    return getattr(copy, "features", copy) if layer == "features" else copy


def deleted_coordinates(model: nn.Module, images: Tensor) -> Tensor:
    """Tell which coordinates of flattened images the mask of a network deletes: (d,) bool."""
    mask = getattr(model, "front", None)
    deleted = torch.zeros(images.shape[1:], dtype=torch.bool, device=images.device)
    if isinstance(mask, PixelMask) and mask.deleted.numel():
        deleted = deleted | mask.deleted
    return deleted.flatten()


def bounds_of(model: nn.Module, images: Tensor, bounds: Bounds, *, seed: int) -> dict[str, float]:
    """Measure the bounds of images given to a network, with noise on what it releases.

    Args:
        model: target model.
        images: (N, C, H, W) in [0, 1], on the model's device.
        bounds: options.
        seed: of the choice of coordinates and of probes.

    Returns:
        By name, and for some by ``NAME/SCALE``. Lengths are in pixel units. ``deleted_share`` and
        ``infinite_share``: coordinates that a mask deletes, and whose supremum is infinite;
        ``deleted_infinite_share``: of the deleted ones that were tried, those with an infinite HCR
        bound. By noise scale, the means over images of ``eta`` and ``inverse_dfil``, and the
        medians over images and kept coordinates of ``hcr_sd``, the largest HCR bound that the
        search found, and ``row_space_sd``. What needs the whole Jacobian is left out where that is
        too large, and what is infinite is left out always.
    """
    images = images.double()
    release = deterministic(model, bounds.layer)
    deleted = deleted_coordinates(model, images)
    draws = generator(seed, "coordinates")
    kept, gone = (choose(where, bounds.pixels, draws) for where in (~deleted, deleted))
    rms = float(release(images).square().mean().sqrt()) or 1.0  # a release of zeros has no scale
    noises = {scale: scale * rms for scale in bounds.noise_scales}
    found: Values = {"deleted_share": [float(deleted.double().mean())]}
    for number, image in enumerate(images.split(1)):
        if is_dense(release, image):
            one = dense_bounds(release, image, kept, noises)
        else:
            one = large_bounds(release, image, kept, noises, bounds, seed=derive_seed(seed, number))
        if len(gone):
            steps = unit_steps(image, gone)
            best = search_hcr(release, image, steps, noises=tuple(noises.values()), reach=REACH)
            one["deleted_infinite_share"] = best[:, 0, gone].isinf().flatten().double().tolist()
        for name, values in one.items():
            found.setdefault(name, []).extend(values)
    means = {name: (median if "_sd/" in name else fmean)(values) for name, values in found.items()}
    return {name: value for name, value in means.items() if value < float("inf")}


def choose(where: Tensor, count: int, draws: torch.Generator) -> Tensor:
    """Draw at most ``count`` of the coordinates at which (d,) is true, in increasing order."""
    found = where.nonzero().squeeze(1).cpu()
    return found[torch.randperm(len(found), generator=draws)[:count]].sort().values


def is_dense(release: Release, image: Tensor) -> bool:
    """Tell whether the Jacobian at an image, (1, C, H, W), is small enough to be computed."""
    return release(image).numel() * image.numel() <= DENSE


def dense_bounds(
    release: Release, image: Tensor, kept: Tensor, noises: dict[float, float]
) -> Values:
    """Measure one image, (1, C, H, W), by its Jacobian: every value is exact or searched."""
    dense = jacobian(release, image)
    space = row_space(dense)
    norm = torch.linalg.matrix_norm(dense, ord=2)
    directions = dense_directions(image, kept, space)
    found = by_scale(release, image, kept, noises, norm, exact_trace(dense).value, directions)
    for scale, noise in noises.items():
        rows = space.row_space_deviation(noise)
        found[f"row_space_sd/{scale:g}"] = rows[0, kept].tolist()
    found["infinite_share"] = [float((~space.inside).double().mean())]
    return found


def dense_directions(image: Tensor, kept: Tensor, space: RowSpace) -> Iterator[Tensor]:
    """Generate the directions of the search, (1, C, H, W).

    They are single coordinates, the last singular vector, and for each coordinate the best of the
    row space: that of Cramer-Rao if its bound is finite.
    """
    yield from unit_steps(image, kept)
    yield space.singular.view_as(image)
    for coordinate in kept.tolist():
        yield space.row_space_directions(coordinate).view_as(image)


def large_bounds(
    release: Release,
    image: Tensor,
    kept: Tensor,
    noises: dict[float, float],
    bounds: Bounds,
    *,
    seed: int,
) -> Values:
    """Measure one image, (1, C, H, W), by products with its Jacobian, which is not computed."""
    draws = generator(seed, "norm")
    norm = spectral_norm(release, image, generator=draws, max_steps=bounds.power_steps).value
    draws = generator(seed, "probes")
    trace = hutchinson_trace(release, image, probes=bounds.probes, generator=draws).value
    return by_scale(release, image, kept, noises, norm, trace, unit_steps(image, kept))


def by_scale(
    release: Release,
    image: Tensor,
    kept: Tensor,
    noises: dict[float, float],
    norm: Tensor,
    trace: Tensor,
    directions: Iterator[Tensor],
) -> Values:
    """Compute the values that every image has, for each noise scale."""
    best = search_hcr(release, image, directions, noises=tuple(noises.values()), reach=REACH)
    found: Values = {}
    for number, (scale, noise) in enumerate(noises.items()):
        found[f"eta/{scale:g}"] = eta(norm, noise).tolist()
        found[f"inverse_dfil/{scale:g}"] = (1 / dfil(trace, image.numel(), noise)).tolist()
        found[f"hcr_sd/{scale:g}"] = best[number, 0, kept].tolist()
    return found


def measure_bounds(spec: UnitSpec, bounds: Bounds, folder: Path) -> dict[str, Any]:
    """Measure the bounds of a trained unit."""
    start = time.perf_counter()
    split = load_split(spec.block.data, spec.block.split)
    seed = spec.seed("bounds")
    order = torch.randperm(len(split.test), generator=generator(seed, "images"))
    images = split.test.images[order[: bounds.images].sort().values].to(pick_device())
    found = bounds_of(load_target(spec, split, folder), images, bounds, seed=seed)
    return {"bounds": found, "seconds": time.perf_counter() - start}


def bounds_stage(
    spec: UnitSpec, bounds: Bounds, folder: Path, run_jobs: RunJobs = run_serially
) -> dict[str, Any]:
    """Measure the bounds of a trained unit, unless the result is stored."""
    path, specification = folder / "bounds.pt", spec.bounds_hash()
    payload = load_stage(path, specification)
    if payload is None:
        (payload,) = run_jobs([partial(measure_bounds, spec, bounds, folder)])
        save_stage(path, specification, payload)
    return payload
