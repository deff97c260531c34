"""One step of every stage of a unit, on its own settings made as small as they can be.

The stages are those of a run; what is small is their budget. Where files are missing, data and
generators of the same shape stand for them.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import torch

from atat_ray.data import LISTINGS, MADE, Data, load_split
from atat_ray.models.backbones import find_weights
from atat_ray.priors import PriorOptions
from atat_ray.robustness import ATTACK_SETS
from atat_ray.robustness.autoattack import run_attack
from atat_ray.training import Training
from atat_ray.unit.block_assets import make_evaluation, make_prior
from atat_ray.unit.jobs import Job
from atat_ray.unit.run import run_unit
from atat_ray.unit.spec import BlockSpec, UnitSpec
from atat_ray.unit.train_stage import load_target
from atat_ray.utils.device import pick_device
from atat_ray.utils.precision import true_float32

CPU_BATCH = 4  # images: the least that every defense takes
SMALL = 64  # pixels; of such images a CPU takes whole batches

Clock = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One stage that was rehearsed.

    Attributes:
        stage: its name.
        seconds: that it took.
        peak: bytes of GPU memory in use at most; None on a CPU.
        problem: why it failed, in one line; empty if it did not.
    """

    stage: str
    seconds: float
    peak: int | None
    problem: str = ""


def first_alone(jobs: Sequence[Job]) -> list[Any]:
    """Do the first of the parts of a stage, and leave the others."""
    return [jobs[0]()]


def shrink(spec: UnitSpec, stand_ins: Path, *, narrow: bool) -> tuple[UnitSpec, list[str]]:
    """Make the specification of a unit as small as one that takes every step once.

    On a GPU batches and candidates stay as they are, because memory is what is rehearsed; on a CPU
    so do those of small images.

    Args:
        spec: the unit.
        stand_ins: folder for made generators.
        narrow: whether a made generator has few channels, for a CPU.

    Returns:
        The specification, and a line for each thing that is not as in a run.
    """
    notes: list[str] = []
    tight = pick_device().type == "cpu" and spec.block.data.size > SMALL
    block = replace(
        spec.block,
        data=few_data(spec, tight, notes),
        evaluation=replace(
            spec.block.evaluation,
            training=shrink_training(
                spec.block.evaluation.training, spec.block.evaluation.architecture, tight, notes
            ),
        ),
        priors=stand_in_priors(spec.block.priors, stand_ins, narrow, notes),
    )
    if tight:
        notes.append(f"no GPU: batches of {CPU_BATCH} images, one candidate of one class")
    if spec.workers > 1:
        notes.append(f"the {spec.workers} workers of a unit are rehearsed as one process")
    least = getattr(spec.defense, "least", None)
    small = replace(
        spec,
        block=block,
        defense=spec.defense if least is None else least(),
        training=shrink_training(spec.training, spec.architecture, tight, notes),
        inversions={
            name: inversion.minimal() if tight else inversion.with_one_step()
            for name, inversion in spec.inversions.items()
        },
        # An untrained network is wrong about most images, which nobody attacks: see attack_once.
        robustness=replace(spec.robustness, epsilons=(), chunk=1),
        workers=1,
    )
    return small, notes


def shrink_training(
    training: Training, architecture: str, tight: bool, notes: list[str]
) -> Training:
    """Make a schedule one epoch long; without ImageNet's weights if they are not there."""
    weights = training.weights
    try:
        if weights == "imagenet":
            find_weights(architecture)
    except ValueError:
        notes.append(f"the ImageNet weights of {architecture} are not there: drawn ones")
        weights = "none"
    size = min(CPU_BATCH, training.batch_size) if tight else training.batch_size
    return replace(training, epochs=1, batch_size=size, weights=weights)


def few_data(spec: UnitSpec, tight: bool, notes: list[str]) -> Data:
    """Take as few images as fill a batch; made ones if the dataset is not there."""
    data = spec.block.data
    sizes = (spec.training.batch_size, spec.block.evaluation.training.batch_size)
    few = CPU_BATCH if tight else max(*sizes, data.num_private)
    if data.name in LISTINGS and not Path(data.root or "").expanduser().exists():
        notes.append(f"there is no folder {data.root}: made data of the shape of {data.name}")
        each = ceil(few / data.num_private)
        data = replace(
            data, name=MADE, root=None, skip_corrupt=False, num_train=each, train_share=None
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
    """Run a shrunken unit, assets of its block first; after a failure the rest is left out.

    Args:
        spec: of :func:`shrink`.
        assets: folder of the block's evaluation models and priors.
        folder: of the stages.
        on_step: told each stage as it ends.
    """
    steps: list[Step] = []

    def end(step: Step) -> None:
        steps.append(step)
        on_step(step)

    with timed(end) as begin:
        make_block(spec.block, assets, begin)
        run_unit(spec, assets=assets, folder=folder, perform=first_alone, on_stage=begin)
        begin("attack")
        attack_once(spec, folder)
    return steps


def make_block(block: BlockSpec, assets: Path, begin: Clock) -> None:
    """Make what the block has once."""
    begin("evaluation model")
    make_evaluation(block, assets)
    for name in block.priors:
        begin(f"prior of {name}")
        make_prior(block, name, assets)


def attack_once(spec: UnitSpec, folder: Path) -> None:
    """Take one iteration of each attack of robust accuracy on an image.

    Its label is what the model says, whatever is on it: what is wrong already is not attacked.
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
def timed(end: Callable[[Step], None]) -> Iterator[Clock]:
    """Time stages; give what begins one, which ends the one before.

    An error ends the present stage with its reason and goes no further.
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
    except Exception as error:  # whatever it is, a run would end of it
        stop(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
