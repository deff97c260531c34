"""Convert what Pillow reads from an image file to RGB of 8 bits, whatever its pixels are.

Pillow converts wide pixels by clipping, which makes a 16-bit image white and a float image black.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

WORD = 2**16 - 1
BITS, PHOTOMETRIC, ORIENTATION = 258, 262, 274  # tags of TIFF; the last one is in EXIF too


class Corrupt(Exception):
    """A file that cannot be decoded as an image."""


def to_rgb(image: "Image") -> "Image":
    """Convert an image to mode RGB.

    Gray images of 16 bits and float images in [0, 1] are scaled by their range. Transparency is
    dropped, as torchvision's ImageFolder does.

    Raises:
        Corrupt: the range of its pixels is not known, or a pixel is out of it.
        ValueError: Pillow cannot convert its mode.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return gray_of_wide(image).convert("RGB")
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())  # undo the multiplication by alpha
    if "transparency" in image.info:
        image = image.convert("RGBA")  # P to RGB would give a warning
    return image.convert("RGB")


def gray_of_wide(image: "Image") -> "Image":
    """Scale an image of more than 8 bits a pixel to mode L by the range of its pixels.

    Raises:
        Corrupt: the range is not known, or a pixel is out of it.
    """
    from PIL import Image

    highest, values = read_wide(image)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= highest):  # NaN is neither
        raise Corrupt(
            f"its pixels are between {low:g} and {high:g}, and the range for its mode "
            f"{image.mode} is 0 to {highest:g}; save it as gray of 8 or 16 bits"
        )
    scaled = values.double().mul(255 / highest).round().to(torch.uint8)
    if image.format == "TIFF" and tag(image, PHOTOMETRIC) == 0:
        scaled = 255 - scaled  # zero is white
    return Image.frombytes("L", image.size, scaled.numpy().tobytes())


def read_wide(image: "Image") -> tuple[float, Tensor]:
    """Return the largest value that a pixel of the file can have, and its pixels, (H W,).

    Raises:
        Corrupt: the file does not say what its largest value is.
    """
    if image.mode == "F":
        return 1.0, torch.frombuffer(bytearray(image.tobytes()), dtype=torch.float32)
    highest = WORD
    if image.format == "TIFF":
        highest = 2 ** int(tag(image, BITS) or 16) - 1
        if image.mode == "I":
            raise Corrupt(
                "its pixels are integers with a sign or of 32 bits, whose range is not known; "
                "save it as gray of 8 or 16 bits"
            )
    pixels = image.convert("I").tobytes()
    return highest, torch.frombuffer(bytearray(pixels), dtype=torch.int32)


def tag(image: "Image", number: int) -> int | None:
    """Return the first value of a tag of a TIFF file."""
    value = getattr(image, "tag_v2", {}).get(number)
    return value[0] if isinstance(value, tuple) else value


def remarks(image: "Image") -> Iterator[str]:
    """Name what is in an image file and not in its pixels as :func:`to_rgb` gives them."""
    if getattr(image, "n_frames", 1) > 1:
        yield "hold several pictures, of which the first is read"
    if image.has_transparency_data:
        yield "have transparency, which is dropped"
    if image.getexif().get(ORIENTATION, 1) != 1:
        yield "have an orientation tag, which is ignored: they are read as they are stored"
    profile = image.info.get("icc_profile") or b"sRGB"
    if b"sRGB" not in profile and "sRGB".encode("utf-16-be") not in profile:
        yield "have a colour profile other than sRGB, which is ignored"
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        yield "have more than 8 bits, and are scaled to 8"
