"""The invert stage: run an inversion attack on the target model."""

import shutil
import time
from dataclasses import fields
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from atat_ray.data import load_split
from atat_ray.data.stored_images import StoredImages, to_bytes
from atat_ray.inversion import invert
from atat_ray.inversion.interface import Reconstructions
from atat_ray.models.bottleneck import draws_noise, reseed
from atat_ray.unit.block_assets import load_block_prior
from atat_ray.unit.jobs import RunJobs, run_serially
from atat_ray.unit.spec import UnitSpec
from atat_ray.unit.train_stage import load_target
from atat_ray.utils.device import pick_device
from atat_ray.utils.stage_files import load_stage, save_stage

PICTURES = ("images", "stage_images")  # of what attacks return


def as_kept(found: Reconstructions) -> dict[str, Any]:
    """Bring what an attack returns into the form in which it is kept: pictures at 8 bits."""
    tensors = {field.name: getattr(found, field.name) for field in fields(found)}
    return {n: (to_bytes(t) if n in PICTURES else t).cpu() for n, t in tensors.items()}


def as_read(payload: dict[str, Any]) -> dict[str, Any]:
    """Let what is kept of an attack be read as images in [0, 1]."""
    return {**payload, "images": StoredImages(payload["images"])}


@lru_cache(maxsize=1)
def shared_by_parts(folder: Path, specification: str) -> dict[str, torch.Tensor]:
    """Keep what the parts of one attack find once, for as long as this process does them."""
    return {}


def invert_part(
    spec: UnitSpec, inversion: str, assets: Path, folder: Path, number: int
) -> dict[str, Any]:
    """Attack the classes of one part, unless that is done."""
    split = load_split(spec.block.data, spec.block.split)
    parts = spec.inversions[inversion].parts(split.num_classes)
    path = folder / f"invert-{inversion}-parts" / f"{number}.pt"
    payload = load_stage(path, spec.invert_hash(inversion))
    if payload is None:
        start = time.perf_counter()
        target, shared = load_target(spec, split, folder), None
        reseed(target, spec.seed(f"noise of {inversion}"))
        if not draws_noise(target):  # whose draws would depend on what another part has found
            shared = shared_by_parts(folder, spec.invert_hash(inversion))
        found = invert(
            target,
            load_block_prior(spec.block, inversion, assets).to(pick_device()),
            split.num_classes,
            spec.inversions[inversion],
            seed=spec.seed(f"invert {inversion}"),
            part=parts[number],
            shared=shared,
        )
        payload = as_kept(found)
        payload["seconds"] = time.perf_counter() - start
        if len(parts) > 1:
            save_stage(path, spec.invert_hash(inversion), payload)
    return payload


def invert_stage(
    spec: UnitSpec, inversion: str, assets: Path, folder: Path, perform: RunJobs = run_serially
) -> dict[str, Any]:
    """Run one inversion attack on the target model, unless that is done.

    Returns:
        The fields of ``Reconstructions`` and ``seconds``; images at 8 bits a value, as an attacker
        would hand them on, and a quarter of the memory.
    """
    path, specification = folder / f"invert-{inversion}.pt", spec.invert_hash(inversion)
    payload = load_stage(path, specification)
    if payload is None:
        num_classes = load_split(spec.block.data, spec.block.split).num_classes
        numbers = range(len(spec.inversions[inversion].parts(num_classes)))
        jobs = [partial(invert_part, spec, inversion, assets, folder, part) for part in numbers]
        done = perform(jobs)
        tensors = [name for name, value in done[0].items() if isinstance(value, torch.Tensor)]
        payload = {
            **{name: torch.cat([part[name] for part in done]) for name in tensors},
            "seconds": sum(part["seconds"] for part in done),
        }
        save_stage(path, specification, payload)
        shutil.rmtree(folder / f"invert-{inversion}-parts", ignore_errors=True)
    return as_read(payload)
