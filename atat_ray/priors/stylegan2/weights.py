"""From tensors by name to a generator: the names and shapes say how large every layer is."""

from collections.abc import Mapping

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
    num_layers = count(tensors, "mapping.fc{}.weight")
    resolutions = count(tensors, "synthesis.b{}.torgb.weight", lambda index: 4 * 2**index)
    if not num_layers or not resolutions:
        raise ValueError(
            "no StyleGAN2 generator: mapping.fc0.weight and synthesis.b4.torgb.weight must be "
            f"there, got {listed(tensors)}"
        )
    for name in ("mapping.fc0.weight", *(f"synthesis.b{4 * 2**i}.torgb.weight"
                                         for i in range(resolutions))):  # fmt: skip
        if tensors[name].ndim < 2:
            raise ValueError(f"{name} must have 2 axes or more, has {tensors[name].ndim}")
    style_dim, latent_dim = tensors["mapping.fc0.weight"].shape[:2]
    colours = [tensors[f"synthesis.b{4 * 2**i}.torgb.weight"] for i in range(resolutions)]
    return Shape(
        latent_dim=latent_dim,
        style_dim=style_dim,
        num_layers=num_layers,
        channels=tuple(weight.shape[1] for weight in colours),
        image_channels=colours[0].shape[0],
    )


def count(tensors: Mapping[str, Tensor], pattern: str, number=lambda index: index) -> int:
    """Count the layers of a name with rising numbers, from index 0 without a gap."""
    index = 0
    while pattern.format(number(index)) in tensors:
        index += 1
    return index


def listed(names) -> str:
    """List a few names, and how many more there are."""
    names = sorted(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(names[:SHOWN]) + more) or "nothing"


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
