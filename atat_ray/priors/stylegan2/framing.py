"""Settings of a generator, and the framing of its images for a target model."""

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import interpolate

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in Pillow's conversion to gray


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Settings of a StyleGAN2 prior.

    Attributes:
        psi: truncation; 1 means none, 0 the mean image.
        cutoff: number of layers, from the first, whose w is truncated; all layers if None.
        noise: whether the checkpoint's constant noise is added; noise is never drawn.
        crop: side of the central square that is kept, in the generator's pixels; None means all.
        size: side of the returned images in pixels; None means that of the crop.
        gray: whether colours are converted to gray, (N, 1, size, size).
        batch: images in memory at a time.
    """

    psi: float = 1.0
    cutoff: int | None = None
    noise: bool = True
    crop: int | None = None
    size: int | None = None
    gray: bool = False
    batch: int = 8

    def __post_init__(self) -> None:
        if not (math.isfinite(self.psi) and self.psi > 0):
            raise ValueError(f"psi must be above 0, got {self.psi}; 1 means no truncation")
        for name in ("cutoff", "crop", "size", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")


def frame(images: Tensor, settings: Settings) -> Tensor:
    """Crop, resize and scale images of a generator, about [-1, 1], to images of about [0, 1].

    Args:
        images: (N, C, R, R).
        settings: crop, size and gray.

    Returns:
        (N, C or 1, size, size), not clamped.
    """
    if settings.crop is not None:
        edge = (images.shape[-1] - settings.crop) // 2
        images = images[..., edge : edge + settings.crop, edge : edge + settings.crop]
    if settings.size is not None and settings.size != images.shape[-1]:
        size = (settings.size, settings.size)
        images = interpolate(images, size=size, mode="bilinear", antialias=True)
    if settings.gray:
        weights = images.new_tensor(LUMA)
        images = (images * weights[:, None, None]).sum(dim=1, keepdim=True)
    return scale(images)


def scale(images: Tensor) -> Tensor:
    """Scale images of a generator from [-1, 1] to [0, 1]."""
    return (images + 1) / 2
