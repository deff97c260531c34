"""Target models kept on the way, at clean accuracies that were named before: for looking at.

A defended and an undefended model of the same accuracy can so be laid side by side. Which epoch
that is was decided after treatment, so a comparison of them is none of randomised units.
"""

from pathlib import Path
from typing import Any

from torch import nn

from atat_ray.utils.stage_files import load_stage, save_stage

WITHIN = 0.0025  # of the threshold, on either side, as in earlier code


def checkpoint_name(threshold: float) -> str:
    """Name the file of a threshold: train-acc-0.90.pt, train-acc-0.905.pt."""
    return f"train-acc-{max(f'{threshold:.2f}', f'{threshold:g}', key=len)}.pt"


def keep_at_thresholds(
    model: nn.Module,
    thresholds: tuple[float, ...],
    *,
    folder: Path,
    specification: str,
    epoch: int,
    clean_acc: float,
) -> None:
    """Keep a model whose clean accuracy after an epoch first lies at a threshold.

    Args:
        model: under training.
        thresholds: of the training.
        folder: of the unit.
        specification: hash of the training.
        epoch: epochs done.
        clean_acc: accuracy on the private test images.
    """
    for threshold in thresholds:
        path = folder / checkpoint_name(threshold)
        near = abs(clean_acc - threshold) <= WITHIN + 1e-9
        if near and load_stage(path, specification) is None:
            state = {name: value.cpu() for name, value in model.state_dict().items()}
            payload = {"state": state, "epoch": epoch, "clean_acc": clean_acc}
            save_stage(path, specification, payload)


def kept_at_thresholds(
    thresholds: tuple[float, ...], *, folder: Path, specification: str
) -> dict[str, dict[str, Any]]:
    """List what was kept: epoch and clean accuracy by the name of the file."""
    names = [checkpoint_name(threshold) for threshold in thresholds]
    found = {name: load_stage(folder / name, specification) for name in names}
    return {
        name: {"epoch": payload["epoch"], "clean_acc": payload["clean_acc"]}
        for name, payload in found.items()
        if payload is not None
    }
