"""Augmentation of whole batches on their device, with parameters drawn for each image."""

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import BatchDraws


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """Ranges of the augmentation of training images; drawn uniformly, one set for each image.

    Attributes:
        rotation: largest angle in degrees.
        scale: (smallest, largest) magnification of the face.
        shift: largest shift as a share of the side.
        flip: mirror each image with probability 1/2.
        brightness: largest additive change, in pixel units.
        contrast: largest relative change about the mean of the image.
    """

    rotation: float = 8.0
    scale: tuple[float, float] = (0.85, 1.08)
    shift: float = 0.08
    flip: bool = True
    brightness: float = 0.075
    contrast: float = 0.15

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high:
            raise ValueError(
                f"scale must be (smallest, largest) magnification above 0, got ({low:g}, {high:g})"
            )
        for name, most in (("rotation", 180), ("shift", 1), ("brightness", 1), ("contrast", 1)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(
                    f"{name} must be between 0 and {most}, got {getattr(self, name):g}"
                )


def resample(images: Tensor, matrix: Tensor) -> Tensor:
    """Warp each image by its own affine matrix: (N, C, H, W), (N, 2, 3) -> (N, C, H, W)."""
    grid = affine_grid(matrix, list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


def augment(images: Tensor, options: Augmentation, draws: BatchDraws) -> Tensor:
    """Augment a batch of training images, (N, C, H, W) in [0, 1]; return the same shape."""
    angle = draws.uniform(-options.rotation, options.rotation, images) * (pi / 180)
    zoom = 1 / draws.uniform(*options.scale, images)
    shift = draws.uniform(-2 * options.shift, 2 * options.shift, images, 2)
    flips = draws.flips(images)
    mirror = torch.where(flips, -1.0, 1.0) if options.flip else torch.ones_like(zoom)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    rows = torch.stack([cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]], dim=1)
    images = resample(images, rows.view(-1, 2, 3))
    contrast = 1 + draws.uniform(-options.contrast, options.contrast, images)
    brightness = draws.uniform(-options.brightness, options.brightness, images)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - mean) * contrast.view(-1, 1, 1, 1) + mean
    return (images + brightness.view(-1, 1, 1, 1)).clamp(0, 1)
