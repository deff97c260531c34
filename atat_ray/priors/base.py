"""What every prior offers to an inversion attack."""

from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn


class Prior(nn.Module):
    """An image generator with a standard Gaussian latent space; its tensors are all there is to it.

    Attributes:
        name: what a protocol calls this kind of prior.
        latent_dim: D, coordinates of a latent.
        in_file: whether it was not fitted but read from a file of its own, and is read from there
            again.
    """

    name: ClassVar[str]
    in_file: ClassVar[bool] = False
    latent_dim: int

    def sample_latents(self, num: int, generator: torch.Generator) -> Tensor:
        """Draw latents (num, D) from N(0, 1) on the CPU and move them to the prior's device."""
        latents = torch.randn(num, self.latent_dim, generator=generator)
        return latents.to(next(self.buffers()).device)

    @classmethod
    def read(cls, path: Path, **saved: Any) -> Self:
        """Make a prior that is in a file of its own from that file and what ``saved`` gave."""
        raise NotImplementedError

    def saved(self) -> dict[str, Any]:
        """Give what makes the prior again: the tensors that its class takes, on the CPU."""
        return {name: tensor.cpu() for name, tensor in self.state_dict().items()}

    def weights(self) -> list[Tensor]:
        """List the tensors that PPDG may tune in place; none unless a kind of prior names them."""
        return []

    def synthesize(self, latents: Tensor) -> Tensor:
        """Turn latents (N, D) into images (N, C, H, W) in [0, 1], differentiably."""
        raise NotImplementedError
