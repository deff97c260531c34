"""Differentiable random crops of images."""

import torch
from torch import Tensor

from atat_ray.data.augmentation import resample
from atat_ray.utils.seeding import BatchDraws


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
        draws: random draws; each image has its own crop, whereas PPA's reference code uses one crop
            for a whole batch.
        area: (least, largest) share of the image that is kept.
        ratio: (least, largest) ratio of width to height, drawn uniformly on the log scale.
        flip: whether each crop is mirrored with probability one half.
    """
    return resample(images, draw_crops(images, draws, area=area, ratio=ratio, flip=flip))


def draw_crops(
    images: Tensor,
    draws: BatchDraws,
    *,
    area: tuple[float, float],
    ratio: tuple[float, float] = (1.0, 1.0),
    flip: bool = False,
) -> Tensor:
    """Draw the affine matrix of each crop, (N, 2, 3); see :func:`random_resized_crop`."""
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
    return rows.view(-1, 2, 3)
