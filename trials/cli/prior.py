"""``atat prior convert``: convert a StyleGAN2 generator for use in protocols."""

from pathlib import Path

import yaml

from atat_ray.priors.stylegan2.files import read_generator, write_generator
from atat_ray.utils.hashing import file_hash


def convert(source: Path, target: Path) -> int:
    """Convert the generator of a file to safetensors, and print its shape and sha256.

    Raises:
        ValueError: the target exists or does not end in .safetensors, or the source holds no
            generator.
    """
    if target.suffix != ".safetensors":
        raise ValueError(f"the new file must end in .safetensors, got {target}")
    if target.exists():
        raise ValueError(f"{target} exists already; choose another name, or move the file")
    generator = read_generator(source)
    write_generator(generator, target)
    shape, sha256 = generator.shape, file_hash(target)
    print(f"resolution  {shape.resolution} pixels, {shape.image_channels} colours")
    print(f"latents     {shape.latent_dim}; w {shape.style_dim}, {shape.num_styles} layers")
    print(f"parameters  {sum(tensor.numel() for tensor in generator.parameters()):,}")
    print(f"sha256      {sha256}")
    print(f"written     {target}")
    print("\nuse it in an inversion of a protocol; choose psi, cutoff and crop:")
    print("  prior:\n    name: stylegan2")
    path = yaml.safe_dump(str(target.resolve()), width=float("inf")).partition("\n")[0]
    print(f"    path: {path}\n    sha256: {sha256}")
    return 0
