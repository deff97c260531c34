"""Images that stay 8 bits a value, on disk or in memory, until a batch of them is asked for."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


class StoredImages:
    """What stands for a tensor of images (N, C, H, W) that does not fit into memory as floats.

    The one place where stored bytes become what networks see: ``images[rows]`` is float32 in
    [0, 1], on the device that ``to`` named. Bytes travel there, which is a quarter of the way.
    """

    def __init__(
        self,
        pixels: Tensor,
        rows: Tensor | None = None,
        *,
        device: torch.device | None = None,
        fingerprint: str = "",
    ) -> None:
        self.pixels = pixels
        self.rows = torch.arange(len(pixels)) if rows is None else rows
        self.device = device or pixels.device
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> torch.Size:
        """Tell (N, C, H, W)."""
        return torch.Size((len(self), *self.pixels.shape[1:]))

    def __getitem__(self, which: Tensor | slice | int) -> Tensor:
        """Read some images: float32 in [0, 1] on the device."""
        rows = self.rows[which.cpu() if isinstance(which, Tensor) else which]
        # index_select copies whole images, where [] copies byte by byte: a batch in a third of the
        # time.
        found = self.pixels[rows] if rows.dim() == 0 else self.pixels.index_select(0, rows)
        return found.to(self.device).float().div_(255)

    def take(self, rows: Tensor) -> "StoredImages":
        """Choose some images without reading them."""
        return StoredImages(
            self.pixels, self.rows[rows.cpu()], device=self.device, fingerprint=self.fingerprint
        )

    def split(self, size: int) -> Iterator[Tensor]:
        """Read all images, so many at a time."""
        return (self[first : first + size] for first in range(0, len(self), size))

    def to(self, device: torch.device) -> "StoredImages":
        """Send what is read from now on to a device."""
        return StoredImages(self.pixels, self.rows, device=device, fingerprint=self.fingerprint)


def to_bytes(images: Tensor) -> Tensor:
    """Round images in [0, 1] to 8 bits a value, as a file of a picture does."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def take(images: Tensor | StoredImages, rows: Tensor) -> Tensor | StoredImages:
    """Choose some images of a dataset."""
    return images.take(rows) if isinstance(images, StoredImages) else images[rows]


def in_parts(
    function: Callable[[Tensor], Tensor], images: Tensor | StoredImages, *, size: int = 512
) -> Tensor:
    """Apply a function that gives a row an image to so many images at a time; join the rows."""
    return torch.cat([function(part) for part in images.split(size)])
