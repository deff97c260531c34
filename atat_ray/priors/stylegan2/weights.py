"""Build a generator from tensors by name; names and shapes determine the size of each layer."""

import itertools
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from atat_ray.priors.stylegan2.networks import Generator, Shape

NUM_SHOWN = 3  # names that an error lists


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
        raise ValueError(
            "not a StyleGAN2 generator: it must have mapping.fc0.weight and "
            f"synthesis.b4.torgb.weight, got {join_names(tensors)}"
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
    known = sorted(names)
    more = f" and {len(known) - NUM_SHOWN} more" if len(known) > NUM_SHOWN else ""
    return (", ".join(known[:NUM_SHOWN]) + more) or "nothing"


def build(tensors: Mapping[str, Tensor], clamp: float | None = None) -> Generator:
    """Build a generator from tensors; float32 tensors are not copied, and none requires gradients.

    Args:
        tensors: tensors by their names in G_ema of the public checkpoints.
        clamp: largest magnitude of features, or None.

    Raises:
        ValueError: a tensor is missing, unknown, or of another shape than the others imply.
    """
    shape = infer_shape(tensors)
    with torch.device("meta"):  # shapes only, no memory
        generator = Generator(shape, clamp)
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
    generator.load_state_dict(floats, assign=True)
    return generator.requires_grad_(False).eval()
