"""Measure the seconds that the parts of a unit take on the current device."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from atat_ray.data import Faces, load_split
from atat_ray.data.stored_images import StoredImages
from atat_ray.inversion.cost_estimate import TIMED_CALLS, estimate, fastest_seconds
from atat_ray.priors import Prior
from atat_ray.training.loop import Loop
from atat_ray.unit.block_assets import load_block_prior
from atat_ray.unit.spec import UnitSpec
from atat_ray.unit.student_stage import assemble, begin_distillation, new_student
from atat_ray.unit.train_stage import new_target
from atat_ray.utils.device import pick_device
from atat_ray.utils.precision import true_float32


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Seconds that the parts of a unit take.

    Attributes:
        train: seconds per image of a training step under the defense.
        forward: seconds per image of a forward pass of the target model.
        gradient: seconds per image of the target model's gradient at the image.
        inversions: seconds of each whole inversion attack, by name, with those of training the
            students that are trained for it.
    """

    train: float
    forward: float
    gradient: float
    inversions: dict[str, float]


def measure_rates(full: UnitSpec, spec: UnitSpec, assets: Path) -> Rates:
    """Time the parts of a unit.

    Args:
        full: the unit.
        spec: the unit as :func:`atat_ray.unit.rehearsal.shrink` returns it.
        assets: folder of the block's priors; missing ones are built.
    """
    split, device = load_split(spec.block.data, spec.block.split), pick_device()
    faces = split.train.to(device)
    model = new_target(spec, split, device).train()
    size = spec.training.batch_size
    long = replace(spec.training, epochs=TIMED_CALLS + 1)  # the schedule has this many steps
    with true_float32():
        loop = Loop(model, faces, spec.defense, long, seed=0)
        train = fastest_seconds(device, lambda: loop.step(torch.arange(size))) / size
    model.eval().requires_grad_(False)
    batch = Faces(images=faces.images[:size], labels=faces.labels[:size]).images[:]
    inversions = {}
    for name, attack in full.inversions.items():
        prior = load_block_prior(spec.block, name, assets).to(device)
        candidates = spec.inversions[name].candidates
        count = full.students[name].count if name in full.students else 0
        students = [new_student(spec, name, split, number) for number in range(count)]
        attacked = assemble(full, name, model, students)
        found = estimate(attacked, prior, split.num_classes, attack, num_probed=candidates)
        inversions[name] = found.seconds
        if students and full.first_with_students(name) == name:
            public = split.public.images
            inversions[name] += student_seconds(full, spec, name, students[0], model, prior, public)
    return Rates(
        train=train,
        forward=fastest_seconds(device, lambda: model(batch)) / size,
        gradient=fastest_seconds(device, lambda: gradient(model, batch)) / size,
        inversions=inversions,
    )


def student_seconds(
    full: UnitSpec,
    spec: UnitSpec,
    inversion: str,
    student: torch.nn.Module,
    target: torch.nn.Module,
    prior: Prior,
    public: torch.Tensor | StoredImages,
) -> float:
    """Time a step of a student and scale it to all students of an inversion.

    Args:
        full: the unit.
        spec: the unit as :func:`atat_ray.unit.rehearsal.shrink` returns it.
        inversion: name of the inversion.
        student: untrained.
        target: the target model.
        prior: of the inversion.
        public: images of public people.
    """
    few, all_of_them = spec.students[inversion], full.students[inversion]
    timed = begin_distillation(
        replace(spec, students={inversion: replace(few, steps=TIMED_CALLS + 1)}),
        inversion,
        0,
        student=student,
        target=target,
        prior=prior,
        public=public,
    )
    rows = next(timed.batches())
    with true_float32():
        seconds = fastest_seconds(pick_device(), lambda: timed.step(rows))
    images = all_of_them.count * all_of_them.steps * all_of_them.batch_size
    return seconds / few.batch_size * images


def gradient(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Compute the gradient of the largest logit at each image (N, C, H, W)."""
    images = images.clone().requires_grad_()
    (found,) = torch.autograd.grad(model(images).amax(1).sum(), images)
    return found
