"""One unit from its specification to its outcome, stage by stage, each of them a file.

    train -> invert (one an inversion attack) -> score -> robustness -> outcome.json

A stage that is done is never done again: its file has the hash of all that it depends on.
"""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from atat_ray.assets import load_block_prior, load_evaluation
from atat_ray.data import load_split
from atat_ray.device import pick_device
from atat_ray.inversion.ppa import Reconstructions, invert
from atat_ray.robustness import robust_accuracies
from atat_ray.scoring import score
from atat_ray.specification import UnitSpec
from atat_ray.stages import load_stage, save_stage, write_whole
from atat_ray.target import Trainer, load_target, train_here, train_stage

OnStage = Callable[[str], None]


def invert_stage(spec: UnitSpec, inversion: str, assets: Path, folder: Path) -> dict[str, Any]:
    """Run one inversion attack on the target model, unless that is done."""
    path, specification = folder / f"invert-{inversion}.pt", spec.invert_hash(inversion)
    payload = load_stage(path, specification)
    if payload is None:
        start = time.perf_counter()
        split = load_split(spec.block.data, spec.block.split)
        target = load_target(spec, split, folder)
        prior = load_block_prior(spec.block, inversion, assets).to(pick_device())
        found = invert(
            target,
            prior,
            split.num_classes,
            spec.inversions[inversion],
            seed=spec.seed(f"invert {inversion}"),
        )
        with torch.no_grad():
            confidence = target(found.images).softmax(1).gather(1, found.classes[:, None])
        payload = {
            "images": found.images.cpu(),
            "latents": found.latents.cpu(),
            "classes": found.classes.cpu(),
            "target_confidence": float(confidence.mean()),
            "seconds": time.perf_counter() - start,
        }
        save_stage(path, specification, payload)
    return payload


def score_stage(spec: UnitSpec, assets: Path, folder: Path) -> dict[str, Any]:
    """Score the reconstructions of every inversion attack, unless that is done."""
    path, specification = folder / "score.pt", spec.score_hash()
    payload = load_stage(path, specification)
    if payload is None:
        start = time.perf_counter()
        split = load_split(spec.block.data, spec.block.split)
        models = load_evaluation(spec.block, split, assets).to(pick_device())
        payload = {"outcomes": {}, "classes": [], "pictures": {}}
        for inversion in spec.inversions:
            stage = invert_stage(spec, inversion, assets, folder)
            found = Reconstructions(
                images=stage["images"], latents=stage["latents"], classes=stage["classes"]
            )
            outcomes, rows, picture = score(found, models, split)
            outcomes["target_confidence"] = stage["target_confidence"]
            payload["outcomes"] |= {f"{inversion}/{k}": v for k, v in outcomes.items()}
            payload["classes"] += [{"inversion": inversion, **row} for row in rows]
            payload["pictures"][inversion] = picture
        payload["seconds"] = time.perf_counter() - start
        save_stage(path, specification, payload)
    return payload


def robustness_stage(spec: UnitSpec, folder: Path) -> dict[str, Any]:
    """Measure robust accuracy on the private test images, unless that is done."""
    path, specification = folder / "robustness.pt", spec.robustness_hash()
    payload = load_stage(path, specification)
    if payload is None:
        start = time.perf_counter()
        split = load_split(spec.block.data, spec.block.split)
        target = load_target(spec, split, folder)
        robust = robust_accuracies(
            target,
            split.test.to(pick_device()),
            spec.robustness,
            num_classes=split.num_classes,
            seed=spec.seed("robustness"),
            keep=(folder / "robustness-parts", specification),
        )
        payload = {"robust_acc": robust, "seconds": time.perf_counter() - start}
        save_stage(path, specification, payload)
        shutil.rmtree(folder / "robustness-parts", ignore_errors=True)
    return payload


def read_outcome(spec: UnitSpec, folder: Path) -> dict[str, Any] | None:
    """Read the outcome of a unit; None if it is not finished with this specification."""
    try:
        outcome = json.loads((folder / "outcome.json").read_text())
    except (OSError, ValueError):
        return None
    return outcome if outcome.get("specification") == spec.outcome_hash() else None


def run_unit(
    spec: UnitSpec,
    *,
    assets: Path,
    folder: Path,
    trainer: Trainer = train_here,
    on_stage: OnStage = lambda stage: None,
) -> dict[str, Any]:
    """Run what is left of a unit and return its outcome.

    Args:
        spec: the unit.
        assets: folder of the block's evaluation models and priors, which are made if missing.
        folder: where the stages of this unit are kept.
        trainer: trains the target model; ``atat_ray.distributed`` has one of several workers.
        on_stage: told the name of each stage before it starts.

    Returns:
        Content of ``outcome.json``: outcomes by column name, rows by class, curves, seconds.
    """
    outcome = read_outcome(spec, folder)
    if outcome is not None:
        return outcome
    on_stage("train")
    trained = train_stage(spec, folder, trainer)
    seconds = {"train": trained["seconds"]}
    for inversion in spec.inversions:
        on_stage(f"invert {inversion}")
        seconds[f"invert_{inversion}"] = invert_stage(spec, inversion, assets, folder)["seconds"]
    on_stage("score")
    scored = score_stage(spec, assets, folder)
    on_stage("robustness")
    robust = robustness_stage(spec, folder)
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
    write_whole(folder / "outcome.json", json.dumps(outcome, indent=1).encode())
    return outcome
