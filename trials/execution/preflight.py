"""Check before a run what it reads: data, ImageNet weights, files of priors."""

from collections.abc import Callable
from functools import partial
from typing import Any

from atat_ray.data import load_split
from atat_ray.models.backbones import find_weights
from trials.config.protocol import Settings


def check_data(settings: Settings) -> None:
    """Read the data of every block, and look for the files that the settings name.

    Raises:
        ValueError: a file cannot be read, a dataset is too small, ImageNet weights or the file of a
            prior are missing; one line names all of it.
    """
    found = missing(settings)
    if len(found) == 1:
        raise ValueError(found[0])
    if found:
        numbered = " ".join(f"({number}) {what}" for number, what in enumerate(found, 1))
        raise ValueError(f"{len(found)} things are missing: {numbered}")


def missing(settings: Settings) -> list[str]:
    """List what this machine lacks and what to do about each, a line each."""
    checks: list[Callable[[], Any]] = []
    for name, block in settings.blocks.items():
        spec = settings.block_spec(name)
        checks.append(partial(load_split, spec.data, spec.split))
        if settings.training.weights == "imagenet":
            checks.append(partial(find_weights, block.architecture or settings.architecture))
    if settings.evaluation.training.weights == "imagenet":
        checks.append(partial(find_weights, settings.evaluation.architecture))
    for inversion in settings.inversions.values():
        checks.append(inversion.prior.check)
    found = []
    for check in checks:
        try:
            check()
        except ValueError as error:
            found.append(str(error))
    return list(dict.fromkeys(found))
