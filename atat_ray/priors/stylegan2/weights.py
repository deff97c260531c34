"""From tensors by name to a generator: the names and shapes say how large every layer is."""

import itertools
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from atat_ray.priors.stylegan2.networks import Generator, Shape

SHOWN = 3  # names that an error lists


def infer_shape(tensors: Mapping[str, Tensor]) -> Shape:
    """Read the sizes of a generator off the tensors of its state dict.

    Raises:
        ValueError: they are not of an unconditional StyleGAN2 of skip architecture.
    """
    if "mapping.embed.weight" in tensors:
        raise ValueError(
            "the generator is class-conditional (it has mapping.embed); "
            "only unconditional ones are priors here"
        )
    dense = consecutive(tensors, (f"mapping.fc{i}.weight" for i in itertools.count()))
    colours = consecutive(
        tensors, (f"synthesis.b{4 * 2**i}.torgb.weight" for i in itertools.count())
    )
    if not dense or not colours:
        raise ValueError(
            "no StyleGAN2 generator: mapping.fc0.weight and synthesis.b4.torgb.weight must be "
            f"there, got {listed(tensors)}"
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
    """List names until the first that there is no tensor of."""
    return list(itertools.takewhile(tensors.__contains__, names))


def listed(names: Iterable[str]) -> str:
    """List a few names, and how many more there are."""
    known = sorted(names)
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return (", ".join(known[:SHOWN]) + more) or "nothing"


def build(tensors: Mapping[str, Tensor], clamp: float | None = None) -> Generator:
    """Make a generator of these tensors, without copying float32 ones; nothing in it is trained.

    Args:
        tensors: by the names of the public checkpoints' G_ema.
        clamp: largest magnitude of features, or None.

    Raises:
        ValueError: a tensor is missing, too many, or of another shape than the others imply.
    """
    shape = infer_shape(tensors)
    with torch.device("meta"):  # shapes alone, no memory
        generator = Generator(shape, clamp)
    expected = generator.state_dict()
    missing, extra = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    if missing or extra:
        raise ValueError(
            f"no StyleGAN2 generator of skip architecture and {shape.resolution} pixels: "
            f"missing {listed(missing)}; not known {listed(extra)}"
        )
    for name, tensor in expected.items():
        if tensors[name].shape != tensor.shape:
            raise ValueError(
                f"{name} must be {tuple(tensor.shape)} in a generator of these sizes, "
                f"is {tuple(tensors[name].shape)}"
            )
    floats = {name: tensors[name].float().contiguous() for name in expected}
    generator.load_state_dict(floats, assign=True)
    return generator.requires_grad_(False).eval()
