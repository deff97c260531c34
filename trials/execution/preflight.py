"""What a protocol needs and a machine may lack: data, ImageNet weights, files of priors."""

from collections.abc import Callable
from functools import partial
from typing import Any

from atat_ray.data import load_split
from atat_ray.models.backbones import find_weights
from trials.config.protocol import Settings


def read_data(protocol: Settings) -> None:
    """Read the data of every block, so that what cannot be read ends a run before it begins.

    Raises:
        ValueError: a file cannot be read, a dataset is too small, ImageNet weights or the file of a
            prior are missing; one line for all of it.
    """
    found = missing(protocol)
    if len(found) == 1:
        raise ValueError(found[0])
    if found:
        words = " ".join(f"({number}) {what}" for number, what in enumerate(found, 1))
        raise ValueError(f"{len(found)} things are missing: {words}")


def missing(protocol: Settings) -> list[str]:
    """Say what a protocol needs and this machine lacks, and what to do about each."""
    checks: list[Callable[[], Any]] = []
    for name, block in protocol.blocks.items():
        spec = protocol.block_spec(name)
        checks.append(partial(load_split, spec.data, spec.split))
        if protocol.training.weights == "imagenet":
            checks.append(partial(find_weights, block.architecture or protocol.architecture))
    if protocol.evaluation.training.weights == "imagenet":
        checks.append(partial(find_weights, protocol.evaluation.architecture))
    for inversion in protocol.inversions.values():
        checks.append(inversion.prior.check)
    found = []
    for check in checks:
        try:
            check()
        except ValueError as error:
            found.append(str(error))
    return list(dict.fromkeys(found))
