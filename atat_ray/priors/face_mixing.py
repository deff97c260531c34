"""Procedural faces: mix parts of real faces, so that a small gallery spans many faces."""

import torch
from torch import Tensor

from atat_ray.priors.flow_fields import identity_grid
from atat_ray.utils.seeding import BatchDraws


def mix_faces(images: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """Compose faces (num, C, H, W) from images (N, C, H, W), four of them drawn for each face.

    The lower part of the second image replaces that of the first, two symmetric soft spots are
    copied from the third, and the fourth is blended in; each of the three with probability one
    half. Brightness and contrast of every face vary.
    """
    rows = torch.randint(len(images), (4, num), generator=generator).to(images.device)
    faces, lower, spots, other = images[rows].unbind(0)
    draws = BatchDraws(generator)

    def sometimes(amount: Tensor) -> Tensor:
        return amount * draws.flips(faces).view(-1, 1, 1, 1)

    faces = torch.lerp(faces, lower, sometimes(band_mask(faces, draws)))
    faces = torch.lerp(faces, spots, sometimes(spot_mask(faces, draws)))
    weight = draws.uniform(0.0, 0.5, faces).view(-1, 1, 1, 1)
    faces = torch.lerp(faces, other, sometimes(weight))
    return vary_light(faces, draws)


def band_mask(like: Tensor, draws: BatchDraws) -> Tensor:
    """Draw masks with a smooth step from 0 at the top to 1 at the bottom: (N, 1, H, W)."""
    y = identity_grid(like.shape[2], like.shape[3], like.device)[..., 1]
    edge = draws.uniform(-0.7, 0.7, like).view(-1, 1, 1, 1)
    width = draws.uniform(0.03, 0.15, like).view(-1, 1, 1, 1)
    return torch.sigmoid((y - edge) / width)


def spot_mask(like: Tensor, draws: BatchDraws) -> Tensor:
    """Draw masks of two soft spots that mirror each other: (N, 1, H, W) in [0, 1]."""
    x, y = identity_grid(like.shape[2], like.shape[3], like.device).unbind(-1)
    right = draws.uniform(0.0, 0.8, like).view(-1, 1, 1, 1)
    down = draws.uniform(-0.8, 0.8, like).view(-1, 1, 1, 1)
    radius = draws.uniform(0.2, 0.5, like).view(-1, 1, 1, 1)
    distance = ((x.abs() - right) ** 2 + (y - down) ** 2).sqrt()
    return torch.sigmoid((1 - distance / radius) / 0.2)


def vary_light(images: Tensor, draws: BatchDraws) -> Tensor:
    """Change contrast by up to 15% about the mean of an image and brightness by up to 0.075."""
    contrast = draws.uniform(0.85, 1.15, images).view(-1, 1, 1, 1)
    brightness = draws.uniform(-0.075, 0.075, images).view(-1, 1, 1, 1)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + contrast * (images - mean) + brightness
