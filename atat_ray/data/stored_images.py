"""Images stored as 8-bit values, on disk or in memory, and converted a batch at a time."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from atat_ray.utils.device import to_device


class StoredImages:
    """Images (N, C, H, W) that need not fit into memory as floats.

    ``images[rows]`` is float32 in [0, 1] on the device set by ``to``. Bytes are copied to the
    device and converted there, which copies a quarter of the data.

    Args:
        pixels: (M, C, H, W) uint8.
        rows: (N,) rows of ``pixels`` that are the images; all if None.
        device: of the converted images; that of ``pixels`` if None.
        fingerprint: key of the store, for the record.

    >>> images = StoredImages(torch.full((4, 1, 2, 2), 255, dtype=torch.uint8))
    >>> images[torch.tensor([0, 2])].mean()
    tensor(1.)
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
        """Return (N, C, H, W)."""
        return torch.Size((len(self), *self.pixels.shape[1:]))

    def __getitem__(self, which: Tensor | slice | int) -> Tensor:
        """Read images: float32 in [0, 1] on the device."""
        rows = self.rows[which.cpu() if isinstance(which, Tensor) else which]
        # index_select copies whole images and [] copies single bytes, which takes three times as
        # long.
        found = self.pixels[rows] if rows.dim() == 0 else self.pixels.index_select(0, rows)
        return to_device(found, self.device).float().div_(255)

    def take(self, rows: Tensor) -> "StoredImages":
        """Select images without reading them."""
        return StoredImages(
            self.pixels, self.rows[rows.cpu()], device=self.device, fingerprint=self.fingerprint
        )

    def split(self, size: int) -> Iterator[Tensor]:
        """Read all images in batches of ``size``."""
        return (self[first : first + size] for first in range(0, len(self), size))

    def to(self, device: torch.device) -> "StoredImages":
        """Return the same images, to be read to a device."""
        return StoredImages(self.pixels, self.rows, device=device, fingerprint=self.fingerprint)


def to_bytes(images: Tensor) -> Tensor:
    """Round images in [0, 1] to 8-bit values, as an image file does."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def take(images: Tensor | StoredImages, rows: Tensor) -> Tensor | StoredImages:
    """Select rows of images, stored or not."""
    return images.take(rows) if isinstance(images, StoredImages) else images[rows]


def in_parts(
    function: Callable[[Tensor], Tensor], images: Tensor | StoredImages, *, size: int = 512
) -> Tensor:
    """Apply a function to images in batches of ``size`` and join its rows, one for each image."""
    return torch.cat([function(part) for part in images.split(size)])
