"""Training loop of a target model, independent of Ray."""

from collections.abc import Callable
from math import isfinite, nextafter
from typing import Any

import torch
from torch import Tensor, nn

from atat_ray.data import Faces
from atat_ray.data.augmentation import augment
from atat_ray.models.auxiliary_head import auxiliary_loss
from atat_ray.training.checkpoint import Checkpoint
from atat_ray.training.interface import Course, Defense, LossTerms
from atat_ray.training.schedule import Training, check_precision
from atat_ray.utils.precision import forward_precision, true_float32
from atat_ray.utils.seeding import BatchDraws, generator


def warmup_share(warmup: float, steps: int) -> float:
    """Return ``warmup``, or the next larger number where it is exactly one step.

    A warmup of exactly one step would make OneCycleLR divide by 0.
    """
    while warmup * steps == 1:
        warmup = nextafter(warmup, 1)
    return warmup


Epoch = dict[str, float]


class Loop:
    """State of a running training: model, optimizer, schedule, session and generators.

    The order of images, their augmentation and the draws of the defense come from three generators
    derived from the seed, so that all arms see the same images in the same order.
    """

    def __init__(
        self,
        model: nn.Module,
        faces: Faces,
        defense: Defense,
        training: Training,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_batches(training, len(faces), world_size)
        check_precision(training, defense)
        self.model, self.faces, self.training = model, faces, training
        self.steps = len(faces) // training.batch_size
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )
        steps = self.steps * training.epochs
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=training.learning_rate,
            total_steps=steps,
            pct_start=warmup_share(training.warmup, steps),
        )
        self.order = generator(seed, "order")
        self.views, self.draws = (
            BatchDraws(generator(seed, name), rank=rank, world_size=world_size)
            for name in ("augmentation", "defense")
        )
        course = Course(faces=faces, training=training, steps_per_epoch=self.steps, seed=seed)
        self.session = defense.begin(model, course)

    def epoch(self) -> dict[str, Tensor]:
        """Train for one epoch; return the means of its curves over this worker's images."""
        size = self.training.batch_size
        rows = torch.randperm(len(self.faces), generator=self.order)[: self.steps * size]
        means: dict[str, Tensor] = {}
        for batch in rows.view(self.steps, size):
            for name, value in self.step(batch).items():
                means[name] = means.get(name, 0) + value / self.steps
        return means

    def step(self, batch: Tensor) -> dict[str, Tensor]:
        """Take a step on the images of these rows, divided among the workers; return its curves."""
        images, labels = self.faces.batch(self.views.shard(batch))
        images = augment(self.session.visible(images), self.training.augmentation, self.views)
        images = images.contiguous(memory_format=torch.channels_last)
        with forward_precision(self.training.precision, images.device):
            terms = self.loss(images, labels)
        self.optimizer.zero_grad(set_to_none=True)
        terms.total.backward()
        self.optimizer.step()
        self.schedule.step()
        self.session.after_step()
        return {"loss": terms.total.detach(), **terms.curves}

    def loss(self, images: Tensor, labels: Tensor) -> LossTerms:
        """Compute the loss of the defense on a batch, plus the weighted auxiliary loss if any."""
        terms = self.session.loss(self.model, images, labels, self.draws)
        weight = self.training.auxiliary_weight
        if weight == 0:
            return terms
        beside = auxiliary_loss(self.model, images, labels)
        curves = {**terms.curves, "auxiliary": beside.detach()}
        return LossTerms(total=terms.total + weight * beside, curves=curves)

    def parts(self) -> dict[str, Any]:
        """Return the parts that have a ``state_dict``, by name."""
        names = ("model", "optimizer", "schedule", "session")
        return {name: getattr(self, name) for name in names}

    def generators(self) -> tuple[torch.Generator, ...]:
        """Return the generators of order, augmentation and defense."""
        return self.order, self.views.generator, self.draws.generator

    def snapshot(self, curves: list[Epoch]) -> dict[str, Any]:
        """Return the state that the rest of the training depends on."""
        states = {name: part.state_dict() for name, part in self.parts().items()}
        draws = [one.get_state() for one in self.generators()]
        return {**states, "curves": curves, "generators": draws}

    def restore(self, checkpoint: Checkpoint | None) -> list[Epoch]:
        """Restore the last snapshot, or start the session without one; return the curves so far."""
        state = None if checkpoint is None else checkpoint.load()
        if state is None:
            self.session.start(checkpoint)
            return []
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        for draws, saved in zip(self.generators(), state["generators"], strict=True):
            draws.set_state(saved)
        return state["curves"]


def train(
    model: nn.Module,
    faces: Faces,
    defense: Defense,
    training: Training,
    *,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    average: Callable[[Tensor], Tensor] = lambda values: values,
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[int, Epoch], None] | None = None,
) -> list[Epoch]:
    """Train a model in place and return the curves, one row for each epoch.

    With several workers, each calls this with its own rank and a model that averages gradients
    (``atat_ray.unit.distributed``). The random numbers do not depend on ``world_size``.

    Args:
        model: images in [0, 1] to logits, on its device.
        faces: training images, on the device of the model.
        defense: whose loss is minimised.
        training: the schedule.
        seed: from which all generators are derived.
        rank: of this worker.
        world_size: number of workers; must divide the batch size.
        average: function that averages the curves of an epoch over the workers.
        checkpoint: state to resume from, written again after epochs.
        on_epoch: called with (epoch, means of the curves) after each epoch.

    Raises:
        ValueError: the batch size does not fit the images or the workers.
    """
    loop = Loop(model, faces, defense, training, seed=seed, rank=rank, world_size=world_size)
    curves = loop.restore(checkpoint)
    model.train()
    with true_float32():
        for epoch in range(len(curves), training.epochs):
            if loop.session.has_ended(epoch):
                break
            totals = loop.epoch()
            means = average(torch.stack(list(totals.values()))).tolist()
            curves.append(dict(zip(totals, means, strict=True)))
            if on_epoch is not None:
                on_epoch(epoch, curves[-1])
            if not isfinite(curves[-1]["loss"]):
                break  # the training diverged and cannot recover
            if checkpoint is not None:
                checkpoint.save(lambda: loop.snapshot(curves))
    if checkpoint is not None:
        checkpoint.remove()
    return curves


def check_batches(training: Training, num_images: int, world_size: int) -> None:
    """Refuse a batch size above the images, or not divisible by the workers.

    Raises:
        ValueError: the message says what to change.
    """
    if training.batch_size > num_images:
        raise ValueError(
            f"batch_size is {training.batch_size} but there are {num_images} training images; "
            f"use at most {num_images}"
        )
    if training.batch_size % world_size:
        raise ValueError(
            f"batch_size must be a multiple of the number of workers, got {training.batch_size} "
            f"images for {world_size} workers"
        )


@torch.no_grad()
def accuracy(model: nn.Module, faces: Faces, *, batch_size: int = 256) -> float:
    """Compute the share of images whose largest logit is at their label, in evaluation mode."""
    was_training = model.training
    model.eval()
    batches = zip(faces.images.split(batch_size), faces.labels.split(batch_size), strict=True)
    hits = [(model(images).argmax(1) == labels).sum() for images, labels in batches]
    model.train(was_training)
    return int(torch.stack(hits).sum()) / len(faces)
