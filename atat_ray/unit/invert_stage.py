"""The invert stage: run one inversion attack on the target model, or on its students."""

import shutil
import time
from dataclasses import fields
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from atat_ray.data import load_split
from atat_ray.data.stored_images import StoredImages, to_bytes
from atat_ray.inversion import Reconstructions, invert
from atat_ray.models.bottleneck import draws_noise, reseed
from atat_ray.unit.block_assets import load_block_prior
from atat_ray.unit.jobs import RunJobs, run_serially
from atat_ray.unit.spec import UnitSpec
from atat_ray.unit.student_stage import load_attacked
from atat_ray.utils.device import pick_device
from atat_ray.utils.stage_files import load_stage, save_stage

IMAGE_FIELDS = ("images", "stage_images")  # of the results of attacks


def to_uint8(found: Reconstructions) -> dict[str, Any]:
    """Convert reconstructions to what is stored: tensors on the CPU, images as uint8."""
    tensors = {field.name: getattr(found, field.name) for field in fields(found)}
    return {n: (to_bytes(t) if n in IMAGE_FIELDS else t).cpu() for n, t in tensors.items()}


def from_uint8(payload: dict[str, Any]) -> dict[str, Any]:
    """Wrap stored reconstructions so that images are read as float32 in [0, 1]."""
    return {**payload, "images": StoredImages(payload["images"])}


@lru_cache(maxsize=1)
def part_cache(folder: Path, specification: str) -> dict[str, torch.Tensor]:
    """Return the results that the parts of one attack share while this process runs them."""
    return {}


def invert_part(
    spec: UnitSpec, inversion: str, assets: Path, folder: Path, number: int
) -> dict[str, Any]:
    """Attack the classes of one part, unless its result is stored."""
    split = load_split(spec.block.data, spec.block.split)
    parts = spec.inversions[inversion].parts(split.num_classes)
    path = folder / f"invert-{inversion}-parts" / f"{number}.pt"
    payload = load_stage(path, spec.invert_hash(inversion))
    if payload is None:
        start = time.perf_counter()
        target, shared = load_attacked(spec, inversion, split, assets, folder), None
        reseed(target, spec.seed(f"noise of {inversion}"))
        # The noise of a model that draws any would depend on what another part has computed.
        if not draws_noise(target):
            shared = part_cache(folder, spec.invert_hash(inversion))
        found = invert(
            target,
            load_block_prior(spec.block, inversion, assets).to(pick_device()),
            split.num_classes,
            spec.inversions[inversion],
            seed=spec.seed(f"invert {inversion}"),
            part=parts[number],
            shared=shared,
        )
        payload = to_uint8(found)
        payload["seconds"] = time.perf_counter() - start
        if len(parts) > 1:
            save_stage(path, spec.invert_hash(inversion), payload)
    return payload


def invert_stage(
    spec: UnitSpec, inversion: str, assets: Path, folder: Path, run_jobs: RunJobs = run_serially
) -> dict[str, Any]:
    """Run one inversion attack on the target model, unless its result is stored.

    Returns:
        The fields of ``Reconstructions`` and ``seconds``. Images have 8 bits a value, as in an
        image file, which takes a quarter of the memory.
    """
    path, specification = folder / f"invert-{inversion}.pt", spec.invert_hash(inversion)
    payload = load_stage(path, specification)
    if payload is None:
        num_classes = load_split(spec.block.data, spec.block.split).num_classes
        numbers = range(len(spec.inversions[inversion].parts(num_classes)))
        parts = run_jobs(
            [partial(invert_part, spec, inversion, assets, folder, number) for number in numbers]
        )
        tensors = [name for name, value in parts[0].items() if isinstance(value, torch.Tensor)]
        payload = {
            **{name: torch.cat([part[name] for part in parts]) for name in tensors},
            "seconds": sum(part["seconds"] for part in parts),
        }
        save_stage(path, specification, payload)
        shutil.rmtree(folder / f"invert-{inversion}-parts", ignore_errors=True)
    return from_uint8(payload)
