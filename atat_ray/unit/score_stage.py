"""The score stage: score the reconstructions with the evaluation models."""

import time
from functools import partial
from pathlib import Path
from typing import Any

from atat_ray.data import load_split
from atat_ray.evaluation.scoring import score, select_reported_stage
from atat_ray.unit.block_assets import load_evaluation_models
from atat_ray.unit.invert_stage import invert_stage
from atat_ray.unit.jobs import RunJobs, run_serially
from atat_ray.unit.spec import UnitSpec
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
        payload["outcomes"] |= {f"{inversion}/{name}": v for name, v in outcomes.items()}
        payload["classes"] += [{"inversion": inversion, **row} for row in scores.classes]
        payload["pictures"][inversion] = scores.picture
    payload["seconds"] = time.perf_counter() - start
    return payload


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
