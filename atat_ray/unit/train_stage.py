"""The train stage: build, train, store and load the target model of a unit."""

import time
from collections.abc import Callable
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from atat_ray.data import IdentitySplit, load_split
from atat_ray.models import build_target
from atat_ray.models.bottleneck import reseed
from atat_ray.training import accuracy, train
from atat_ray.training.checkpoint import Checkpoint
from atat_ray.training.loop import Epoch
from atat_ray.training.threshold_checkpoints import save_at_thresholds
from atat_ray.unit.jobs import RunJobs, run_serially
from atat_ray.unit.spec import UnitSpec
from atat_ray.utils.device import pick_device
from atat_ray.utils.stage_files import MissingStage, load_stage, save_stage

CHECKPOINT = "train-checkpoint.pt"
StateDict = dict[str, Tensor]
Trainer = Callable[[UnitSpec, Path], tuple[StateDict, list[Epoch]]]
"""Trains the target model of a unit; returns its state and the curves of its epochs."""


def new_target(
    spec: UnitSpec, split: IdentitySplit, device: torch.device, *, trained: bool = False
) -> nn.Module:
    """Build the target model of a unit on a device, and let the defense prepare it.

    Args:
        spec: specification of the unit.
        split: people and images of its block.
        device: device of the model.
        trained: whether trained weights are loaded next, so that initial ones are not needed.
    """
    model = build_target(
        spec.architecture,
        num_classes=split.num_classes,
        channels=split.train.images.shape[1],
        seed=spec.seed("weights"),
        weights="none" if trained else spec.training.weights,
        auxiliary=spec.training.auxiliary_weight > 0,
    )
    public = None if trained else split.public
    model = spec.defense.prepare(model.to(device), public=public, seed=spec.seed("prepare"))
    return model.to(device)  # new layers, too


class ConstantClassifier(nn.Module):
    """Replacement for a target model whose loss diverged: equal logits for all classes.

    Divergence is an outcome of a unit, not a failure; this model is what later stages measure.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.ones(num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, num_classes) ones, with a gradient of zero at the images."""
        return self.logits + 0 * images.flatten(1).sum(dim=1, keepdim=True)


def restore_target(
    spec: UnitSpec, split: IdentitySplit, state: StateDict, device: torch.device, *, diverged: bool
) -> nn.Module:
    """Build the trained target model of a unit from its state, on a device."""
    if diverged:
        return ConstantClassifier(split.num_classes).to(device)
    model = new_target(spec, split, device, trained=True)
    model.load_state_dict(state)
    return model


def train_here(
    spec: UnitSpec, folder: Path, *, on_epoch: Callable[[int, float], None] | None = None
) -> tuple[StateDict, list[Epoch]]:
    """Train the target model of a unit in this process; return its state and curves.

    Args:
        spec: specification of the unit.
        folder: folder of the unit, for checkpoints.
        on_epoch: called with (finished epochs, clean accuracy) after each epoch.
    """
    split, device = load_split(spec.block.data, spec.block.split), pick_device()
    model = new_target(spec, split, device)
    test = split.test.to(device)

    def measure(epoch: int, curves: Epoch) -> None:
        if on_epoch is None and not spec.training.thresholds:
            return
        reseed(model, spec.seed("noise of epochs"), epoch)
        clean_acc = accuracy(model, test)
        save_at_thresholds(
            model,
            spec.training.thresholds,
            folder=folder,
            specification=spec.train_hash(),
            epoch=epoch + 1,
            clean_acc=clean_acc,
        )
        if on_epoch is not None:
            on_epoch(epoch + 1, clean_acc)

    curves = train(
        model,
        split.train.to(device),
        spec.defense,
        spec.training,
        seed=spec.seed("train"),
        checkpoint=Checkpoint(folder / CHECKPOINT, spec.train_hash()),
        on_epoch=measure,
    )
    return {name: value.cpu() for name, value in model.state_dict().items()}, curves


def accuracies(spec: UnitSpec, state: StateDict, *, diverged: bool) -> dict[str, float]:
    """Measure clean and training accuracy of a trained target model."""
    split, device = load_split(spec.block.data, spec.block.split), pick_device()
    model = restore_target(spec, split, state, device, diverged=diverged)
    return {
        "clean_acc": accuracy(model, split.test.to(device)),
        "train_acc": accuracy(model, split.train.to(device)),
    }


def train_stage(
    spec: UnitSpec, folder: Path, trainer: Trainer = train_here, run_jobs: RunJobs = run_serially
) -> dict[str, Any]:
    """Train the target model and measure its accuracies, unless the result is stored."""
    path, specification = folder / "train.pt", spec.train_hash()
    payload = load_stage(path, specification)
    if payload is None:
        start = time.perf_counter()
        state, curves = trainer(spec, folder)
        diverged = not isfinite(curves[-1]["loss"])
        (measured,) = run_jobs([partial(accuracies, spec, state, diverged=diverged)])
        payload = {
            "state": state,
            "curves": curves,
            "diverged": diverged,
            **measured,
            "seconds": time.perf_counter() - start,
        }
        save_stage(path, specification, payload)
    return payload


def load_target(spec: UnitSpec, split: IdentitySplit, folder: Path) -> nn.Module:
    """Load the trained target model of a unit, in evaluation mode on its device.

    Raises:
        MissingStage: it has not been trained with this specification, or its file is damaged.
    """
    payload = load_stage(folder / "train.pt", spec.train_hash())
    if payload is None:
        raise MissingStage(f"{folder} holds no target model of this specification; train it first")
    state, diverged = payload["state"], payload["diverged"]
    return restore_target(spec, split, state, pick_device(), diverged=diverged).eval()
