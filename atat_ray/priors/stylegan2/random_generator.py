"""Generators with random weights, for rehearsals in which a generator's file is missing."""

from pathlib import Path

from atat_ray.priors.stylegan2.files import write_generator
from atat_ray.priors.stylegan2.networks import Generator, Shape
from atat_ray.utils.hashing import file_hash
from atat_ray.utils.seeding import seeded

# Shape of FFHQ's generator at 1024 pixels: min(512, 32768 / pixels) channels at each resolution
# (Karras et al. 2020, StyleGAN2-ADA).
FFHQ = Shape(
    latent_dim=512,
    style_dim=512,
    num_layers=8,
    channels=(512, 512, 512, 512, 512, 256, 128, 64, 32),
)
# Same pixels, latents and styles, an eighth of the channels: one image a second on a CPU.
NARROW = Shape(
    latent_dim=512, style_dim=512, num_layers=8, channels=(64, 64, 64, 64, 64, 32, 16, 8, 4)
)


def make_generator(path: Path, shape: Shape) -> str:
    """Write a generator with random weights to a .safetensors file; return its SHA-256."""
    with seeded(0):
        write_generator(Generator(shape).requires_grad_(False), path)
    return file_hash(path)
