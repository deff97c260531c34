"""The student stage: distil students from the target model, and assemble what is attacked."""

import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from atat_ray.data import IdentitySplit, load_split
from atat_ray.data.stored_images import StoredImages
from atat_ray.inversion.smoothing import Smoothed
from atat_ray.inversion.students import (
    Distillation,
    MeanLogSoftmax,
    agreement,
    num_held_out,
    sample_images,
)
from atat_ray.models import build_target
from atat_ray.models.bottleneck import reseed
from atat_ray.priors import Prior
from atat_ray.unit.block_assets import load_block_prior
from atat_ray.unit.jobs import RunJobs, run_serially
from atat_ray.unit.spec import UnitSpec
from atat_ray.unit.train_stage import load_target
from atat_ray.utils.device import pick_device
from atat_ray.utils.stage_files import load_stage, save_stage


def new_student(
    spec: UnitSpec, inversion: str, split: IdentitySplit, number: int, *, trained: bool = False
) -> nn.Module:
    """Build a student on its device, with the same kind of initial weights as the target model.

    Args:
        spec: specification of the unit.
        inversion: for which the students are trained.
        split: of which the number of classes and the channels are used.
        number: of the student, from 0.
        trained: whether trained weights are loaded next, so that initial ones are not needed.
    """
    student = build_target(
        spec.students[inversion].architecture or spec.architecture,
        num_classes=split.num_classes,
        channels=split.public.images.shape[1],
        seed=spec.seed(f"student {number} of {inversion}"),
        weights="none" if trained else spec.training.weights,
    )
    return student.to(pick_device())


def begin_distillation(
    spec: UnitSpec,
    inversion: str,
    number: int,
    *,
    student: nn.Module,
    target: nn.Module,
    prior: Prior,
    public: Tensor | StoredImages,
) -> Distillation:
    """Begin the distillation of a student from samples of the prior and public images.

    No private image is handed over.
    """
    options, seed = spec.students[inversion], spec.seed(f"students of {inversion}")
    return Distillation(
        student,
        target,
        options,
        samples=sample_images(prior, options.samples, seed, "samples"),
        public=public,
        device=pick_device(),
        seeds=(seed, number),
    )


def train_student(
    spec: UnitSpec, inversion: str, assets: Path, folder: Path, number: int
) -> dict[str, Any]:
    """Train one student, unless it is stored."""
    path = students_path(folder, inversion).with_suffix("") / f"{number}.pt"
    payload = load_stage(path, spec.students_hash(inversion))
    if payload is None:
        start = time.perf_counter()
        split = load_split(spec.block.data, spec.block.split)
        target = load_target(spec, split, folder)
        reseed(target, spec.seed(f"noise of students of {inversion}"), number)
        student = new_student(spec, inversion, split, number)
        begin_distillation(
            spec,
            inversion,
            number,
            student=student,
            target=target,
            prior=load_block_prior(spec.block, inversion, assets).to(pick_device()),
            public=split.public.images,
        ).run()
        payload = {
            "state": {name: value.cpu() for name, value in student.state_dict().items()},
            "seconds": time.perf_counter() - start,
        }
        save_stage(path, spec.students_hash(inversion), payload)
    return payload


def train_students(spec: UnitSpec, inversion: str, assets: Path, folder: Path) -> dict[str, Any]:
    """Train the students one after another and compare them with the target model."""
    count = spec.students[inversion].count
    found = [train_student(spec, inversion, assets, folder, number) for number in range(count)]
    start = time.perf_counter()
    split = load_split(spec.block.data, spec.block.split)
    target = load_target(spec, split, folder)
    reseed(target, spec.seed(f"noise of agreement of {inversion}"))
    prior = load_block_prior(spec.block, inversion, assets).to(pick_device())
    seed = spec.seed(f"students of {inversion}")
    samples = sample_images(prior, num_held_out(spec.students[inversion]), seed, "held out")
    states = [one["state"] for one in found]
    students = MeanLogSoftmax(restore_students(spec, inversion, split, states))
    return {
        "states": states,
        "agreement": agreement(target, students, samples.to(pick_device())),
        "seconds": sum(one["seconds"] for one in found) + time.perf_counter() - start,
    }


def student_stage(
    spec: UnitSpec, inversion: str, assets: Path, folder: Path, run_jobs: RunJobs = run_serially
) -> dict[str, Any]:
    """Train the students of an inversion, unless they are stored.

    Inversions with the same students and prior share them: they are trained once, for the first of
    the inversions in alphabetical order.

    Returns:
        ``states`` of the students; ``agreement``, the share of held-out samples of the prior for
        which their mean log-softmax and the target model have the same most likely class; and
        ``seconds``.
    """
    first = spec.first_with_students(inversion)
    path, specification = students_path(folder, first), spec.students_hash(first)
    payload = load_stage(path, specification)
    if payload is None:
        (payload,) = run_jobs([partial(train_students, spec, first, assets, folder)])
        save_stage(path, specification, payload)
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
    return payload


def students_path(folder: Path, inversion: str) -> Path:
    """Return the path of the students that were trained for an inversion."""
    return folder / f"students-{inversion}.pt"


def restore_students(
    spec: UnitSpec, inversion: str, split: IdentitySplit, states: list[dict[str, Tensor]]
) -> list[nn.Module]:
    """Build trained students from their states, in evaluation mode on their device."""
    students = []
    for number, state in enumerate(states):
        student = new_student(spec, inversion, split, number, trained=True)
        student.load_state_dict(state)
        students.append(student.eval())
    return students


def load_students(spec: UnitSpec, inversion: str, assets: Path, folder: Path) -> list[nn.Module]:
    """Load the students of an inversion; train them first if they are not stored."""
    split = load_split(spec.block.data, spec.block.split)
    states = student_stage(spec, inversion, assets, folder)["states"]
    return restore_students(spec, inversion, split, states)


def assemble(
    spec: UnitSpec, inversion: str, target: nn.Module, students: list[nn.Module]
) -> nn.Module:
    """Put together the network that an inversion attacks.

    It is the target model, or its students, or both, smoothed if the inversion says so.

    Args:
        spec: specification of the unit.
        inversion: name of the inversion.
        target: the target model.
        students: those of the inversion; empty if it has none.
    """
    network = target
    if inversion in spec.students:
        together = [target] if spec.students[inversion].with_target else []
        network = MeanLogSoftmax([*together, *students])
    if inversion in spec.smoothing:
        batch = spec.inversions[inversion].batch
        network = Smoothed(network, spec.smoothing[inversion], batch)
    return network


def load_attacked(
    spec: UnitSpec, inversion: str, split: IdentitySplit, assets: Path, folder: Path
) -> nn.Module:
    """Load the network that an inversion attacks, in evaluation mode on its device.

    Raises:
        MissingStage: the target model is missing or damaged.
    """
    target = load_target(spec, split, folder)
    students = []
    if inversion in spec.students:
        students = load_students(spec, inversion, assets, folder)
    return assemble(spec, inversion, target, students).eval()
