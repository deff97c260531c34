"""Rehearse a unit: run every stage with the smallest budget that takes each step once.

The code is that of a run; only budgets are smaller. Missing files are replaced by synthetic data
and random generators of the same shape.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import torch

from atat_ray.data import Data, folder_is_missing, load_split
from atat_ray.data.registry import SYNTHETIC
from atat_ray.models.backbones import find_weights
from atat_ray.priors import PriorOptions
from atat_ray.robustness import ATTACK_SETS
from atat_ray.robustness.autoattack import run_attack
from atat_ray.training import Training
from atat_ray.unit.block_assets import build_evaluation_models, build_prior
from atat_ray.unit.jobs import Job
from atat_ray.unit.run import run_unit
from atat_ray.unit.spec import BlockSpec, UnitSpec
from atat_ray.unit.train_stage import load_target
from atat_ray.utils.device import pick_device
from atat_ray.utils.precision import true_float32

CPU_BATCH = 4  # images: the smallest batch that every defense accepts
SMALL_SIDE = 64  # pixels; up to this size a CPU rehearses whole batches

BeginStage = Callable[[str], None]
"""Ends the current stage, if any, and begins the one that is named."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Result of one rehearsed stage.

    Attributes:
        stage: name of the stage.
        seconds: duration.
        peak: peak GPU memory in bytes; None on a CPU.
        problem: one line on why it failed; empty if it passed.
    """

    stage: str
    seconds: float
    peak: int | None
    problem: str = ""


def run_first_job(jobs: Sequence[Job]) -> list[Any]:
    """Run only the first of the parts of a stage."""
    return [jobs[0]()]


def shrink(spec: UnitSpec, stand_ins: Path, *, narrow: bool) -> tuple[UnitSpec, list[str]]:
    """Reduce the specification of a unit to one that takes every step once.

    On a GPU the sizes of batches are kept, because a rehearsal measures memory; on a CPU they are
    kept only for small images.

    Args:
        spec: specification of the unit.
        stand_ins: folder for generators that replace missing files.
        narrow: whether such a generator has few channels, for a CPU.

    Returns:
        The specification, and one line for each difference from a run.
    """
    notes: list[str] = []
    tight = pick_device().type == "cpu" and spec.block.data.size > SMALL_SIDE
    block = replace(
        spec.block,
        data=reduce_data(spec, tight, notes),
        evaluation=replace(
            spec.block.evaluation,
            training=reduce_training(
                spec.block.evaluation.training, spec.block.evaluation.architecture, tight, notes
            ),
        ),
        priors=stand_in_priors(spec.block.priors, stand_ins, narrow, notes),
    )
    if tight:
        notes.append(f"no GPU: batches of {CPU_BATCH} images, one candidate of one class")
    if spec.workers > 1:
        notes.append(f"the {spec.workers} workers of a unit are rehearsed as one process")
    small = replace(
        spec,
        block=block,
        defense=spec.defense.minimal(),
        training=reduce_training(spec.training, spec.architecture, tight, notes),
        inversions={
            name: inversion.minimal() if tight else inversion.with_one_step()
            for name, inversion in spec.inversions.items()
        },
        students={
            name: students.minimal(CPU_BATCH if tight else students.batch_size)
            for name, students in spec.students.items()
        },
        # AutoAttack skips images that the untrained network misclassifies: attack_once instead.
        robustness=replace(spec.robustness, epsilons=(), chunk=1),
        bounds=spec.bounds and spec.bounds.minimal(),
        workers=1,
    )
    return small, notes


def reduce_training(
    training: Training, architecture: str, tight: bool, notes: list[str]
) -> Training:
    """Reduce a schedule to one epoch, with random weights if ImageNet weights are missing."""
    weights = training.weights
    try:
        if weights == "imagenet":
            find_weights(architecture)
    except ValueError:
        notes.append(f"the ImageNet weights of {architecture} are missing: random weights")
        weights = "none"
    size = min(CPU_BATCH, training.batch_size) if tight else training.batch_size
    return replace(training, epochs=1, batch_size=size, weights=weights)


def reduce_data(spec: UnitSpec, tight: bool, notes: list[str]) -> Data:
    """Reduce the data to as few images as fill a batch; synthetic ones if files are missing."""
    data = spec.block.data
    sizes = (spec.training.batch_size, spec.block.evaluation.training.batch_size)
    few = CPU_BATCH if tight else max(*sizes, data.num_private)
    if folder_is_missing(data):
        notes.append(f"there is no folder {data.root}: made data of the shape of {data.name}")
        each = ceil(few / data.num_private)
        data = replace(
            data, name=SYNTHETIC, root=None, skip_corrupt=False, num_train=each, train_share=None
        )
    return replace(data, at_most=few)


def stand_in_priors(
    priors: dict[str, PriorOptions], folder: Path, narrow: bool, notes: list[str]
) -> dict[str, PriorOptions]:
    """Replace the priors whose weights file is missing, and note each replacement."""
    found = {}
    for name, options in priors.items():
        found[name], note = options.stand_in(folder, narrow=narrow)
        if note:
            notes.append(note)
    return found


def rehearse(
    spec: UnitSpec, assets: Path, folder: Path, on_step: Callable[[Step], None]
) -> list[Step]:
    """Build the assets of a reduced unit's block and run the unit; stop at the first failure.

    Args:
        spec: unit as :func:`shrink` returns it.
        assets: folder of the block's evaluation models and priors.
        folder: folder of the unit's stages.
        on_step: called with each stage when it ends.
    """
    steps: list[Step] = []

    def end(step: Step) -> None:
        steps.append(step)
        on_step(step)

    with timed_stages(end) as begin:
        rehearse_assets(spec.block, assets, begin)
        run_unit(spec, assets=assets, folder=folder, run_jobs=run_first_job, on_stage=begin)
        begin("attack")
        attack_once(spec, folder)
    return steps


def rehearse_assets(block: BlockSpec, assets: Path, begin: BeginStage) -> None:
    """Build the assets of a block, each as a stage of its own."""
    begin("evaluation model")
    build_evaluation_models(block, assets)
    for name in block.priors:
        begin(f"prior of {name}")
        build_prior(block, name, assets)


def attack_once(spec: UnitSpec, folder: Path) -> None:
    """Run one iteration of each attack of the robust accuracy on one image.

    The label is the model's own prediction, because misclassified images are not attacked.
    """
    split = load_split(spec.block.data, spec.block.split)
    model = load_target(spec, split, folder)
    image = split.test.to(pick_device()).images[:1]
    settings = replace(
        ATTACK_SETS[spec.robustness.attacks],
        iterations=1,
        target_classes=1,
        queries=2,
        fab_iterations=1,
    )
    with true_float32():
        with torch.no_grad():
            label = model(image).argmax(1)
        for attack in settings.attacks:
            run_attack(
                model,
                image,
                label,
                attack,
                epsilon=0.001,
                settings=settings,
                num_classes=split.num_classes,
                seed=0,
                eot=spec.robustness.eot,
            )


@contextmanager
def timed_stages(end: Callable[[Step], None]) -> Iterator[BeginStage]:
    """Time stages: yield the function that begins one, and call ``end`` with each result.

    An exception ends the current stage, whose result holds the reason; it is not raised further.
    """
    now: dict[str, Any] = {"stage": None, "start": 0.0}
    on_gpu = pick_device().type == "cuda"

    def stop(problem: str = "") -> None:
        if now["stage"] is None:
            return
        if on_gpu and not problem:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - now["start"]
        peak = torch.cuda.max_memory_allocated() if on_gpu else None
        end(Step(stage=now["stage"], seconds=seconds, peak=peak, problem=problem))

    def begin(stage: str) -> None:
        stop()
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        now.update(stage=stage, start=time.perf_counter())

    try:
        yield begin
        stop()
    except Exception as error:  # any exception would end a run
        stop(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
