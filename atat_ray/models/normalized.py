"""The normalisation that every network begins with."""

from torch import Tensor, nn


class Normalized(nn.Module):
    """Map images from [0, 1] to [-1, 1] inside a network, so that epsilon stays in pixel units."""

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] -> the same in [-1, 1]."""
        return images * 2 - 1
