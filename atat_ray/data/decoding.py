"""Decode image files in parallel with Pillow, which is imported when a file is read."""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atat_ray.data.listing import Box, Listing

# Part of the key of a store. Change it whenever the decoded pixels of a file would change.
TRANSFORM = "rgb, first box, centred square, bilinear with antialiasing, 1"
AHEAD = 256  # images decoded ahead of use: 38 MB at 224 x 224


class Corrupt(Exception):
    """A file that cannot be decoded as an image."""


def decode(path: Path, *, size: int, box: Box | None = None) -> Tensor:
    """Read an image, crop the largest square at the centre of its box and resize it.

    Resizing uses antialiasing, as the transforms of published inversion attacks do. Orientation
    tags are ignored, as in torchvision's ImageFolder.

    Args:
        path: of the file.
        size: side of the result in pixels.
        box: (left, top, right, bottom) in pixels, clipped to the image; the whole image if None.

    Returns:
        (3, size, size) uint8.

    Raises:
        Corrupt: the file cannot be decoded, or its box is outside the image.
    """
    from PIL import Image

    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise Corrupt(" ".join(str(error).split())) from error
    left, top, right, bottom = box or (0, 0, *image.size)
    left, top = max(0, left), max(0, top)
    right, bottom = min(image.width, right), min(image.height, bottom)
    if left >= right or top >= bottom:
        raise Corrupt(f"its box {box} is outside of its {image.width} x {image.height} pixels")
    image = image.crop(
        (left, top, right, bottom)
    )  # so that resizing blends in no pixel outside the box
    side = min(image.size)
    x, y = (image.width - side) / 2, (image.height - side) / 2
    square = (x, y, x + side, y + side)
    small = image.resize((size, size), Image.Resampling.BILINEAR, box=square)
    pixels = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8)
    return pixels.view(size, size, 3).permute(2, 0, 1)


def decode_all(listing: Listing, *, size: int) -> Iterator[tuple[int, Tensor | Corrupt]]:
    """Decode the images of a listing in order, on all cores; yield numbers and images or errors."""

    def one(number: int) -> Tensor | Corrupt:
        name = listing.names[number]
        try:
            return decode(listing.root / name, size=size, box=listing.boxes.get(name))
        except Corrupt as error:
            return error

    total = len(listing.names)
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress(total, listing.root) as advance:
        for first in range(0, total, AHEAD):
            numbers = range(first, min(first + AHEAD, total))
            for number, found in zip(numbers, pool.map(one, numbers), strict=True):
                yield number, found
                advance()


@contextmanager
def progress(total: int, root: Path) -> Iterator[Any]:
    """Show a progress bar on stderr while images are read, if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        yield partial(bar.advance, bar.add_task(f"reading {root}", total=total))
