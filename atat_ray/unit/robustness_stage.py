"""The robustness stage: measure robust accuracy at each epsilon."""

import shutil
import time
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

from atat_ray.data import load_split
from atat_ray.robustness import robust_accuracies
from atat_ray.robustness.autoattack import robust_masks
from atat_ray.unit.jobs import RunJobs, run_serially
from atat_ray.unit.spec import UnitSpec
from atat_ray.unit.train_stage import load_target
from atat_ray.utils.device import pick_device
from atat_ray.utils.stage_files import load_stage, save_stage


def robustness_part(spec: UnitSpec, folder: Path, number: int) -> dict[str, Any]:
    """Attack the test images of one chunk at every epsilon; stored results are reused."""
    start = time.perf_counter()
    split = load_split(spec.block.data, spec.block.split)
    found = robust_masks(
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


def robustness_stage(
    spec: UnitSpec, folder: Path, run_jobs: RunJobs = run_serially
) -> dict[str, Any]:
    """Measure robust accuracy on the private test images, unless the result is stored."""
    path, specification = folder / "robustness.pt", spec.robustness_hash()
    payload = load_stage(path, specification)
    if payload is None:
        count = len(load_split(spec.block.data, spec.block.split).test)
        numbers = range(ceil(count / spec.robustness.chunk))
        parts = run_jobs([partial(robustness_part, spec, folder, number) for number in numbers])
        payload = {
            "robust_acc": robust_accuracies([part["resist"] for part in parts]),
            "seconds": sum(part["seconds"] for part in parts),
        }
        save_stage(path, specification, payload)
        shutil.rmtree(folder / "robustness-parts", ignore_errors=True)
    return payload
