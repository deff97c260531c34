"""What every prior offers to an inversion attack."""

from typing import ClassVar

import torch
from torch import Tensor, nn


class Prior(nn.Module):
    """An image generator with a standard Gaussian latent space; its buffers are all there is to it.

    Attributes:
        name: what a protocol calls this kind of prior.
        latent_dim: D, coordinates of a latent.
    """

    name: ClassVar[str]
    latent_dim: int

    def sample_latents(self, num: int, generator: torch.Generator) -> Tensor:
        """Draw latents (num, D) from N(0, 1) on the CPU and move them to the prior's device."""
        latents = torch.randn(num, self.latent_dim, generator=generator)
        return latents.to(next(self.buffers()).device)

    def synthesize(self, latents: Tensor) -> Tensor:
        """Turn latents (N, D) into images (N, C, H, W) in [0, 1], differentiably."""
        raise NotImplementedError
