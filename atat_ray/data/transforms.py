"""Transforms of whole batches on the device of the images, parameters drawn for each image."""

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from atat_ray.options import STRICT
from atat_ray.seeding import BatchDraws


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """How training images are varied. All parameters are drawn uniformly, one set an image.

    Attributes:
        rotation: largest angle in degrees.
        scale: (least, largest) magnification of the face.
        shift: largest shift as a share of the side.
        flip: mirror half of the images.
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


def resample(images: Tensor, matrix: Tensor) -> Tensor:
    """Warp each image by its own affine map: (N, C, H, W) and (N, 2, 3) -> (N, C, H, W)."""
    grid = affine_grid(matrix, list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


def augment(images: Tensor, options: Augmentation, draws: BatchDraws) -> Tensor:
    """Vary a batch of training images: (N, C, H, W) in [0, 1] -> the same."""
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


def random_resized_crop(
    images: Tensor,
    draws: BatchDraws,
    *,
    area: tuple[float, float],
    ratio: tuple[float, float] = (1.0, 1.0),
    flip: bool = False,
) -> Tensor:
    """Crop each image at random and resize it back, differentiably.

    Args:
        images: (N, C, H, W).
        draws: one crop an image, unlike the reference of PPA, which shares one in a batch.
        area: (least, largest) share of the image that is kept.
        ratio: (least, largest) width over height, drawn uniformly on the log scale.
        flip: mirror half of the crops.
    """
    share = draws.uniform(*area, images)
    low, high = (torch.tensor(value).log().item() for value in ratio)
    aspect = draws.uniform(low, high, images).exp()
    width = (share * aspect).sqrt().clamp(max=1)
    height = (share / aspect).sqrt().clamp(max=1)
    place = draws.uniform(-1.0, 1.0, images, 2)
    zero = torch.zeros_like(width)
    mirror = torch.where(draws.flips(images), -1.0, 1.0) if flip else torch.ones_like(width)
    rows = torch.stack(
        [width * mirror, zero, place[:, 0] * (1 - width), zero, height, place[:, 1] * (1 - height)],
        dim=1,
    )
    return resample(images, rows.view(-1, 2, 3))
