"""Layers on images: the normalisation that every network begins with, and a mask of pixels."""

from typing import Any

import torch
from torch import Tensor, nn


class Normalized(nn.Module):
    """Map images from [0, 1] to [-1, 1] inside a network, so that epsilon stays in pixel units."""

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) in [0, 1] to the same shape in [-1, 1]."""
        return images * 2 - 1


GRAY = 0.5  # value of a deleted pixel; 0 after normalisation to [-1, 1]


def delete(images: Tensor, deleted: Tensor) -> Tensor:
    """Replace deleted pixels by gray: (N, C, H, W), (H, W) bool -> (N, C, H, W).

    The result does not depend on the values of deleted pixels, even if they are NaN.
    """
    return torch.where(deleted, torch.full_like(images, GRAY), images)


class PixelMask(nn.Module):
    """Delete the pixels in ``deleted``, (H, W) bool; none while it is empty."""

    def __init__(self) -> None:
        super().__init__()
        self.deleted = nn.Buffer(torch.zeros(0, 0, dtype=torch.bool))

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) in [0, 1] to the same, with deleted pixels gray."""
        return delete(images, self.deleted) if self.deleted.numel() else images

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any, **more: Any) -> None:
        stored = state_dict.get(f"{prefix}deleted")
        if stored is not None and stored.shape != self.deleted.shape:
            self.deleted = nn.Buffer(torch.zeros_like(stored, device=self.deleted.device))
        super()._load_from_state_dict(state_dict, prefix, *rest, **more)
