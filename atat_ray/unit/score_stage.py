"""The score stage: score the reconstructions with the evaluation models."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from atat_ray.data import IdentitySplit, load_split
from atat_ray.data.stored_images import in_parts
from atat_ray.evaluation.scoring import score, select_reported_stage
from atat_ray.inversion.students import MeanLogSoftmax
from atat_ray.models.bottleneck import reseed
from atat_ray.training import accuracy
from atat_ray.unit.block_assets import load_evaluation_models
from atat_ray.unit.invert_stage import invert_stage
from atat_ray.unit.jobs import RunJobs, run_serially
from atat_ray.unit.spec import UnitSpec
from atat_ray.unit.student_stage import load_students, student_stage
from atat_ray.unit.train_stage import load_target
from atat_ray.utils.device import pick_device
from atat_ray.utils.stage_files import load_stage, save_stage


def score_inversions(spec: UnitSpec, assets: Path, folder: Path) -> dict[str, Any]:
    """Score the reconstructions of every inversion attack."""
    start = time.perf_counter()
    split = load_split(spec.block.data, spec.block.split)
    models = load_evaluation_models(spec.block, split, assets).to(pick_device())
    payload: dict[str, Any] = {"outcomes": {}, "classes": [], "pictures": {}}
    for inversion in spec.inversions:
        found = select_reported_stage(invert_stage(spec, inversion, assets, folder), models)
        scores = score(found["images"], found["classes"], models, split)
        confidence = float(found["confidence"].mean())
        outcomes = {**scores.outcomes, "target_confidence": confidence}
        if spec.adaptation(inversion):
            outcomes |= score_adaptation(spec, inversion, found, split, assets, folder)
        payload["outcomes"] |= {f"{inversion}/{name}": v for name, v in outcomes.items()}
        payload["classes"] += [{"inversion": inversion, **row} for row in scores.classes]
        payload["pictures"][inversion] = scores.picture
    payload["seconds"] = time.perf_counter() - start
    return payload


def score_adaptation(
    spec: UnitSpec,
    inversion: str,
    found: dict[str, Any],
    split: IdentitySplit,
    assets: Path,
    folder: Path,
) -> dict[str, float]:
    """Measure the target model on reconstructions that were not made with it alone, and students.

    Returns:
        ``target_confidence``; with students also ``student_acc``, the accuracy on the private test
        images of the mean of their log-softmax, and ``student_agreement``.
    """
    device = pick_device()
    target = load_target(spec, split, folder)
    reseed(target, spec.seed(f"noise of scores of {inversion}"))
    with torch.no_grad():
        probabilities = in_parts(lambda part: target(part.to(device)).softmax(1), found["images"])
    chosen = probabilities.gather(1, found["classes"].to(device)[:, None])
    measured = {"target_confidence": float(chosen.mean())}
    if inversion in spec.students:
        students = MeanLogSoftmax(load_students(spec, inversion, assets, folder))
        measured["student_acc"] = accuracy(students, split.test.to(device))
        stage = student_stage(spec, inversion, assets, folder)
        measured["student_agreement"] = stage["agreement"]
    return measured


def score_stage(
    spec: UnitSpec, assets: Path, folder: Path, run_jobs: RunJobs = run_serially
) -> dict[str, Any]:
    """Score the reconstructions of every inversion attack, unless the scores are stored."""
    path, specification = folder / "score.pt", spec.score_hash()
    payload = load_stage(path, specification)
    if payload is None:
        (payload,) = run_jobs([partial(score_inversions, spec, assets, folder)])
        save_stage(path, specification, payload)
    return payload
