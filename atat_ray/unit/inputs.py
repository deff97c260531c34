"""Files of the user that a unit reads (data, ImageNet weights, generators), by their content."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from atat_ray.data import Data, data_manifest
from atat_ray.data.file_digests import digests_of
from atat_ray.models.backbones import find_weights
from atat_ray.training import Training
from atat_ray.unit.spec import BlockSpec, UnitSpec

Manifest = dict[str, str]
"""SHA-256 of each file of an input, by name."""

Source = Callable[[], Manifest]


def block_sources(block: BlockSpec) -> dict[str, Source]:
    """Name the inputs of a block, each with the function that computes its manifest."""
    generators = {
        f"generator of {inversion}": partial(file_manifest, file)
        for inversion, prior in block.priors.items()
        if (file := prior.file()) is not None
    }
    return {
        name_of(block.data): partial(data_manifest, block.data),
        **weights_sources(block.evaluation.architecture, block.evaluation.training),
        **generators,
    }


def unit_sources(spec: UnitSpec) -> dict[str, Source]:
    """Name the inputs of a unit, each with the function that computes its manifest."""
    found = {**block_sources(spec.block), **weights_sources(spec.architecture, spec.training)}
    for options in spec.students.values():
        found |= weights_sources(options.architecture or spec.architecture, spec.training)
    return found


def weights_sources(architecture: str, training: Training) -> dict[str, Source]:
    """Name the weights file that a training starts from; nothing if it starts from random ones."""
    if training.weights != "imagenet":
        return {}
    return {f"ImageNet weights of {architecture}": partial(weights_manifest, architecture)}


def weights_manifest(architecture: str) -> Manifest:
    """Identify the ImageNet weights of an architecture."""
    return file_manifest(find_weights(architecture))


def file_manifest(file: Path) -> Manifest:
    """Identify one file, which may lie anywhere."""
    return {"content": digests_of(file.parent, [file.name])[file.name]}


def name_of(data: Data) -> str:
    """Name a dataset in messages."""
    return f"data {data.name}" + ("" if data.root is None else f" in {data.root}")


def manifests(sources: dict[str, Source]) -> dict[str, Manifest]:
    """Compute the manifests of inputs; inputs that are computed and not read have none.

    Raises:
        ValueError: a file is missing; the message says what to do.
    """
    found = {name: source() for name, source in sources.items()}
    return {name: manifest for name, manifest in found.items() if manifest}
