"""Decode image files in parallel with Pillow, which is imported when a file is read."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from atat_ray.data.listing import PERMISSIONS, Box, Listing, shown
from atat_ray.data.pixel_modes import Corrupt, to_rgb

if TYPE_CHECKING:
    from PIL.Image import Image

# Part of the key of a store. Change it whenever the decoded pixels of a file would change.
TRANSFORM = "rgb by range, first box, centred square, bilinear with antialiasing, 2"
AHEAD = 256  # images decoded ahead of use: 38 MB at 224 x 224
# Pillow tries no other format, whatever a file is called: some of them start other programs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

T = TypeVar("T")


class Unreadable(ValueError):
    """A file that the system does not let us read, which says nothing about its content."""


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
        Unreadable: the file cannot be read.
    """
    with opened(path) as image:
        return square(to_rgb(image), size=size, box=box)


@contextmanager
def opened(path: Path) -> Iterator["Image"]:
    """Open an image file; what Pillow raises in the block becomes Corrupt or Unreadable."""
    from PIL import Image, UnidentifiedImageError

    try:
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            yield image
    except (Corrupt, MemoryError):
        raise
    except UnidentifiedImageError as error:
        known = f"it is none of {', '.join(FORMATS)}"
        raise Corrupt("it is empty" if path.stat().st_size == 0 else known) from error
    except OSError as error:
        if error.errno is not None:  # of the system; the errors of decoders have none
            denied = isinstance(error, PermissionError)
            advice = PERMISSIONS if denied else "restore it, or check the disk that it is on"
            message = f"cannot read {shown(path)}: {error.strerror}; {advice}"
            raise Unreadable(message) from error
        raise Corrupt(" ".join(str(error).split())) from error
    except Exception as error:  # decoders raise errors of every kind on damaged files
        raise Corrupt(" ".join(str(error).split()) or type(error).__name__) from error


def square(image: "Image", *, size: int, box: Box | None) -> Tensor:
    """Crop the largest square at the centre of a box and resize it: (3, size, size) uint8.

    Raises:
        Corrupt: the box is outside the image.
    """
    from PIL import Image

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
    centre = (x, y, x + side, y + side)
    small = image.resize((size, size), Image.Resampling.BILINEAR, box=centre)
    pixels = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8)
    return pixels.view(size, size, 3).permute(2, 0, 1)


def decode_all(listing: Listing, *, size: int) -> Iterator[tuple[int, Tensor | Corrupt]]:
    """Decode the images of a listing in order, on all cores; yield numbers and images or errors.

    Raises:
        Unreadable: a file cannot be read.
    """
    return for_each(listing, partial(decode, size=size))


def for_each(listing: Listing, work: Callable[..., T]) -> Iterator[tuple[int, T | Corrupt]]:
    """Call ``work(path, box=box)`` for the images of a listing, on all cores, in order.

    Yields:
        The number of each image and its result, or the error if it is corrupt.
    """

    def one(number: int) -> T | Corrupt:
        name = listing.names[number]
        try:
            return work(listing.root / name, box=listing.boxes.get(name))
        except Corrupt as error:
            return error

    total = len(listing.names)
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress(total, listing.root) as advance:
        for first in range(0, total, AHEAD):
            numbers = range(first, min(first + AHEAD, total))
            with quiet():
                results = list(pool.map(one, numbers))
            for number, result in zip(numbers, results, strict=True):
                yield number, result
                advance()


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore the warnings and log lines of Pillow: what concerns the user is reported by us.

    Filters of warnings belong to the whole process, so this is entered before threads start.
    """
    log = logging.getLogger("PIL")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        log.setLevel(level)


@contextmanager
def progress(total: int, root: Path) -> Iterator[Any]:
    """Show a progress bar on stderr while images are read, if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        label = f"reading {escape(shown(root))}"
        yield partial(bar.advance, bar.add_task(label, total=total))
