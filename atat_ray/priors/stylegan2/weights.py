"""Build a generator from tensors by name; names and shapes determine the size of each layer."""

import itertools
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from atat_ray.priors.stylegan2.foreign_files import describe_names
from atat_ray.priors.stylegan2.networks import Generator, Shape
from atat_ray.utils.terminal import printable

NUM_SHOWN = 3  # names that an error lists
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
MAX_TENSORS = 1000  # in a file; a generator of 1024 pixels has 182


def infer_shape(tensors: Mapping[str, Tensor]) -> Shape:
    """Infer the sizes of a generator from the tensors of its state dict.

    Raises:
        ValueError: it is not an unconditional StyleGAN2 with skip connections.
    """
    if "mapping.embed.weight" in tensors:
        raise ValueError(
            "the generator is class-conditional (it has mapping.embed); "
            "a prior must be an unconditional generator"
        )
    dense = consecutive(tensors, (f"mapping.fc{i}.weight" for i in itertools.count()))
    colours = consecutive(
        tensors, (f"synthesis.b{4 * 2**i}.torgb.weight" for i in itertools.count())
    )
    if not dense or not colours:
        what = describe_names(tensors)
        raise ValueError(
            "not a StyleGAN2 generator: it must have mapping.fc0.weight and "
            f"synthesis.b4.torgb.weight, got {join_names(tensors)}{f'; {what}' if what else ''}"
        )
    for name in (dense[0], *colours):
        if tensors[name].ndim < 2:
            raise ValueError(f"{name} must have 2 axes or more, has {tensors[name].ndim}")
    return Shape(
        latent_dim=tensors[dense[0]].shape[1],
        style_dim=tensors[dense[0]].shape[0],
        num_layers=len(dense),
        channels=tuple(tensors[name].shape[1] for name in colours),
        image_channels=tensors[colours[0]].shape[0],
    )


def consecutive(tensors: Mapping[str, Tensor], names: Iterable[str]) -> list[str]:
    """List names up to the first one without a tensor."""
    return list(itertools.takewhile(tensors.__contains__, names))


def join_names(names: Iterable[str]) -> str:
    """Join the first names and the number of further ones."""
    known = sorted(map(printable, names))
    more = f" and {len(known) - NUM_SHOWN} more" if len(known) > NUM_SHOWN else ""
    return (", ".join(known[:NUM_SHOWN]) + more) or "nothing"


def check_clamp(clamp: Any) -> None:
    """Refuse a clamp that is neither None nor a finite number above 0.

    Raises:
        ValueError: it is something else.
    """
    number = type(clamp) in (int, float)
    if clamp is not None and not (number and 0 < clamp <= torch.finfo(torch.float32).max):
        found = (
            printable(repr(clamp))
            if type(clamp) is float
            else f"a value of type {type(clamp).__name__}"
        )
        raise ValueError(f"the clamp of features must be a finite number above 0, is {found}")


def check_count(names: Collection[str]) -> None:
    """Refuse more tensors than any generator has.

    Raises:
        ValueError: there are too many.
    """
    if len(names) > MAX_TENSORS:
        raise ValueError(
            f"the file has {len(names):,} tensors; no generator has over {MAX_TENSORS}"
        )


def check_numbers(tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that no generator has.

    Raises:
        ValueError: one is empty or of a type that is not floating.
    """
    for name, tensor in tensors.items():
        if not (tensor.numel() and tensor.dtype in FLOATS):
            raise ValueError(
                f"{printable(name)} has {tensor.numel()} numbers of {tensor.dtype}; weights are "
                f"floating point numbers, one or more"
            )


def build(tensors: Mapping[str, Tensor], clamp: float | None = None) -> Generator:
    """Build a generator from tensors; float32 tensors are not copied, and none requires gradients.

    Args:
        tensors: tensors by their names in G_ema of the public checkpoints.
        clamp: largest magnitude of features, or None.

    Raises:
        ValueError: a tensor is missing, unknown, of another shape than the others imply, or holds
            a number that is not finite.
    """
    check_count(tensors)
    check_numbers(tensors)
    check_clamp(clamp)
    shape = infer_shape(tensors)
    generator = empty_generator(shape, clamp)
    expected = generator.state_dict()
    missing, extra = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    if missing or extra:
        raise ValueError(
            f"not a StyleGAN2 generator with skip connections and {shape.resolution} pixels: "
            f"missing {join_names(missing)}; unknown {join_names(extra)}"
        )
    for name, tensor in expected.items():
        if tensors[name].shape != tensor.shape:
            raise ValueError(
                f"{name} must be {tuple(tensor.shape)} in a generator of these sizes, "
                f"is {tuple(tensors[name].shape)}"
            )
    floats = {name: tensors[name].float().contiguous() for name in expected}
    for name, tensor in floats.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} holds numbers that are not finite")
    generator.load_state_dict(floats, assign=True)
    return generator.requires_grad_(False).eval()


def empty_generator(shape: Shape, clamp: float | None) -> Generator:
    """Make a generator whose tensors have shapes only and take no memory.

    Raises:
        ValueError: the sizes are larger than those of any tensor.
    """
    try:
        with torch.device("meta"):
            return Generator(shape, clamp)
    except RuntimeError:  # torch counts the numbers of a tensor in 64 bits
        raise ValueError(
            f"not a StyleGAN2 generator: one of {len(shape.channels)} blocks fits no memory"
        ) from None
