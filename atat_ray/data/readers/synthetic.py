"""Random pixels in the shape of a dataset: for rehearsals where the files are not there."""

import torch
from torch import Tensor

from atat_ray.data.stored_images import StoredImages

PICTURES = 16  # different ones; everybody's images are some of them, so that thousands cost nothing
EACH = 2  # images of a person where their number is not asked for


def made_images(num_people: int, *, each: int, size: int) -> tuple[StoredImages, Tensor]:
    """Make images of noise.

    Args:
        num_people: labels 0..num_people - 1.
        each: images of one person.
        size: side in pixels.

    Returns:
        images (N, 3, size, size) and labels (N,) long, those of a person one after the other.
    """
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (PICTURES, 3, size, size), generator=draws, dtype=torch.uint8)
    labels = torch.arange(num_people).repeat_interleave(each)
    rows = torch.arange(len(labels)) % PICTURES
    return StoredImages(pixels, rows, fingerprint="made"), labels
