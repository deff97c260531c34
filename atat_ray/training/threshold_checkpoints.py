"""Target models stored during training at declared clean accuracies, for inspection.

They allow a defended and an undefended model of equal accuracy to be inspected together. The epoch
is selected after treatment, so comparing them is not a comparison of randomised units.
"""

from pathlib import Path
from typing import Any

from torch import nn

from atat_ray.utils.stage_files import load_stage, save_stage

WITHIN = 0.0025  # largest distance from a threshold, as in the reference code


def checkpoint_name(threshold: float) -> str:
    """Return the file name of a threshold.

    >>> checkpoint_name(0.9), checkpoint_name(0.905)
    ('train-acc-0.90.pt', 'train-acc-0.905.pt')
    """
    return f"train-acc-{max(f'{threshold:.2f}', f'{threshold:g}', key=len)}.pt"


def save_at_thresholds(
    model: nn.Module,
    thresholds: tuple[float, ...],
    *,
    folder: Path,
    specification: str,
    epoch: int,
    clean_acc: float,
) -> None:
    """Store a model when its clean accuracy after an epoch is first at a threshold.

    Args:
        model: under training.
        thresholds: of the training.
        folder: of the unit.
        specification: hash of the training.
        epoch: number of epochs done.
        clean_acc: accuracy on the private test images.
    """
    for threshold in thresholds:
        path = folder / checkpoint_name(threshold)
        near = abs(clean_acc - threshold) <= WITHIN + 1e-9
        if near and load_stage(path, specification) is None:
            state = {name: value.cpu() for name, value in model.state_dict().items()}
            payload = {"state": state, "epoch": epoch, "clean_acc": clean_acc}
            save_stage(path, specification, payload)


def list_at_thresholds(
    thresholds: tuple[float, ...], *, folder: Path, specification: str
) -> dict[str, dict[str, Any]]:
    """List the stored models: epoch and clean accuracy, by file name."""
    names = [checkpoint_name(threshold) for threshold in thresholds]
    found = {name: load_stage(folder / name, specification) for name in names}
    return {
        name: {"epoch": payload["epoch"], "clean_acc": payload["clean_acc"]}
        for name, payload in found.items()
        if payload is not None
    }
