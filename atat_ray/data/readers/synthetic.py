"""Random pixels in the shape of a dataset, for rehearsals without the files.

They check that a protocol runs; their results mean nothing.
"""

import torch
from torch import Tensor

from atat_ray.data.dataset import Data
from atat_ray.data.interface import Reader
from atat_ray.data.stored_images import StoredImages

PICTURES = 16  # different images, shared by all people so that thousands of people cost no memory
EACH = 2  # images of a person where the options give no number


def synthetic_images(num_people: int, *, each: int, size: int) -> tuple[StoredImages, Tensor]:
    """Draw images of uniform noise.

    Args:
        num_people: labels are 0..num_people - 1.
        each: images of one person.
        size: side in pixels.

    Returns:
        images (N, 3, size, size) and labels (N,) long, ordered by label.
    """
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (PICTURES, 3, size, size), generator=draws, dtype=torch.uint8)
    labels = torch.arange(num_people).repeat_interleave(each)
    rows = torch.arange(len(labels)) % PICTURES
    return StoredImages(pixels, rows, fingerprint="made"), labels


class Synthetic(Reader):
    """Random pixels: as many people as are private, as many images of each as the options need."""

    def manifest(self, data: Data) -> dict[str, str]:
        """Return nothing: the images are computed."""
        return {}

    def load(self, data: Data) -> tuple[StoredImages, Tensor, list[str]]:
        """Draw the images; the same options give the same images."""
        each = EACH if data.num_train is None else data.num_train + 1
        drawn = synthetic_images(data.num_private, each=each, size=data.size)
        return *drawn, [str(person) for person in range(data.num_private)]
