"""One unit from its specification to its outcome, stage by stage, each of them a file.

    train -> invert (one an inversion attack) -> score -> robustness -> outcome.json

A stage that is done is never done again: its file has the hash of all that it depends on.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache, partial
from math import ceil
from pathlib import Path
from typing import Any

import torch

from atat_ray.assets import load_block_prior, load_evaluation
from atat_ray.data import load_split
from atat_ray.data.stored_images import StoredImages, to_bytes
from atat_ray.device import pick_device
from atat_ray.inversion.attacks import invert
from atat_ray.inversion.scope import Reconstructions
from atat_ray.jobs import Perform, one_by_one
from atat_ray.models.bottleneck import draws_noise, reseed
from atat_ray.robustness import resisting, robust_accuracies
from atat_ray.scoring import reported, score
from atat_ray.specification import UnitSpec
from atat_ray.stages import load_stage, save_stage, write_whole
from atat_ray.target import Trainer, load_target, train_here, train_stage
from atat_ray.thresholds import kept_at_thresholds

OnStage = Callable[[str], None]
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
    spec: UnitSpec, inversion: str, assets: Path, folder: Path, perform: Perform = one_by_one
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


def score_inversions(spec: UnitSpec, assets: Path, folder: Path) -> dict[str, Any]:
    """Score the reconstructions of every inversion attack."""
    start = time.perf_counter()
    split = load_split(spec.block.data, spec.block.split)
    models = load_evaluation(spec.block, split, assets).to(pick_device())
    payload: dict[str, Any] = {"outcomes": {}, "classes": [], "pictures": {}}
    for inversion in spec.inversions:
        stage = reported(invert_stage(spec, inversion, assets, folder), models)
        outcomes, rows, picture = score(stage["images"], stage["classes"], models, split)
        outcomes["target_confidence"] = float(stage["confidence"].mean())
        payload["outcomes"] |= {f"{inversion}/{k}": v for k, v in outcomes.items()}
        payload["classes"] += [{"inversion": inversion, **row} for row in rows]
        payload["pictures"][inversion] = picture
    payload["seconds"] = time.perf_counter() - start
    return payload


def score_stage(
    spec: UnitSpec, assets: Path, folder: Path, perform: Perform = one_by_one
) -> dict[str, Any]:
    """Score the reconstructions of every inversion attack, unless that is done."""
    path, specification = folder / "score.pt", spec.score_hash()
    payload = load_stage(path, specification)
    if payload is None:
        (payload,) = perform([partial(score_inversions, spec, assets, folder)])
        save_stage(path, specification, payload)
    return payload


def robustness_part(spec: UnitSpec, folder: Path, number: int) -> dict[str, Any]:
    """Attack the test images of one chunk at every epsilon; what was done already is kept."""
    start = time.perf_counter()
    split = load_split(spec.block.data, spec.block.split)
    found = resisting(
        load_target(spec, split, folder),
        split.test.to(pick_device()),
        spec.robustness,
        num_classes=split.num_classes,
        seed=spec.seed("robustness"),
        part=number,
        keep=(folder / "robustness-parts", spec.robustness_hash()),
    )
    resist = {epsilon: images.cpu() for epsilon, images in found.items()}
    return {"resist": resist, "seconds": time.perf_counter() - start}


def robustness_stage(spec: UnitSpec, folder: Path, perform: Perform = one_by_one) -> dict[str, Any]:
    """Measure robust accuracy on the private test images, unless that is done."""
    path, specification = folder / "robustness.pt", spec.robustness_hash()
    payload = load_stage(path, specification)
    if payload is None:
        count = len(load_split(spec.block.data, spec.block.split).test)
        numbers = range(ceil(count / spec.robustness.chunk))
        done = perform([partial(robustness_part, spec, folder, part) for part in numbers])
        payload = {
            "robust_acc": robust_accuracies([part["resist"] for part in done]),
            "seconds": sum(part["seconds"] for part in done),
        }
        save_stage(path, specification, payload)
        shutil.rmtree(folder / "robustness-parts", ignore_errors=True)
    return payload


def read_outcome(spec: UnitSpec, folder: Path) -> dict[str, Any] | None:
    """Read the outcome of a unit; None if it is not finished with this specification."""
    try:
        outcome = json.loads((folder / "outcome.json").read_text())
    except (OSError, ValueError):
        return None
    mine = isinstance(outcome, dict) and outcome.get("specification") == spec.outcome_hash()
    return outcome if mine else None


def run_unit(
    spec: UnitSpec,
    *,
    assets: Path,
    folder: Path,
    trainer: Trainer = train_here,
    perform: Perform = one_by_one,
    on_stage: OnStage = lambda stage: None,
) -> dict[str, Any]:
    """Run what is left of a unit and return its outcome.

    Args:
        spec: the unit.
        assets: folder of the block's evaluation models and priors, which are made if missing.
        folder: where the stages of this unit are kept.
        trainer: trains the target model; ``atat_ray.distributed`` has one of several workers.
        perform: does the parts of the other stages; likewise.
        on_stage: told the name of each stage before it starts.

    Returns:
        Content of ``outcome.json``: outcomes by column name, rows by class, curves, seconds.
    """
    outcome = read_outcome(spec, folder)
    if outcome is not None:
        return outcome
    on_stage("train")
    trained = train_stage(spec, folder, trainer, perform)
    seconds = {"train": trained["seconds"]}
    for inversion in spec.inversions:
        on_stage(f"invert {inversion}")
        found = invert_stage(spec, inversion, assets, folder, perform)
        seconds[f"invert_{inversion}"] = found["seconds"]
    on_stage("score")
    scored = score_stage(spec, assets, folder, perform)
    on_stage("robustness")
    robust = robustness_stage(spec, folder, perform)
    seconds |= {"score": scored["seconds"], "robustness": robust["seconds"]}
    outcome = {
        "specification": spec.outcome_hash(),
        "unit_id": spec.unit_id,
        "clean_acc": trained["clean_acc"],
        "train_acc": trained["train_acc"],
        "diverged": trained["diverged"],
        "inversions": scored["outcomes"],
        "robust_acc": {f"{epsilon:g}": value for epsilon, value in robust["robust_acc"].items()},
        "classes": scored["classes"],
        "curves": trained["curves"],
        "seconds": seconds,
    }
    if spec.training.thresholds:
        outcome["selected_after_treatment"] = kept_at_thresholds(
            spec.training.thresholds, folder=folder, specification=spec.train_hash()
        )
    write_whole(folder / "outcome.json", json.dumps(outcome, indent=1).encode())
    return outcome
