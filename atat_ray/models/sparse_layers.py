"""Two layers of sparse coding with dropout, batch normalisation and pooling, as in SCA."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from atat_ray.models.sparse_coding import SparseCoding
from atat_ray.utils.seeding import BatchDraws

KERNEL = 5  # side of the atoms of both layers


class SparseLayers(nn.Module):
    """Sparse codes of sparse codes (Dibbo et al. 2024), at half the resolution of the images.

    Each layer is sparse coding with 5 x 5 atoms at stride 1, dropout and batch normalisation; the
    second pools over 2 x 2 before it normalises. The dictionaries are drawn and never change.
    """

    def __init__(
        self,
        *,
        channels: int,
        atoms: tuple[int, int],
        threshold: float,
        tau: float,
        iterations: int,
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        inputs = (channels, atoms[0])
        self.codes = nn.ModuleList(
            SparseCoding(
                channels=one,
                atoms=other,
                kernel=KERNEL,
                stride=1,
                threshold=threshold,
                tau=tau,
                iterations=iterations,
                generator=generator,
            )
            for one, other in zip(inputs, atoms, strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(count) for count in atoms)
        self.dropout = dropout
        self.draws: BatchDraws | None = None

    @contextmanager
    def drawing(self, draws: BatchDraws) -> Iterator[None]:
        """Draw the dropout from ``draws`` inside the block; there is none outside of it."""
        self.draws = draws
        try:
            yield
        finally:
            self.draws = None

    def drop(self, maps: Tensor) -> Tensor:
        """Set a share of the values to 0 and divide the others by the share that is kept."""
        if self.draws is None or not self.training:
            return maps
        kept = self.draws.uniform(0.0, 1.0, maps, *maps.shape[1:]) >= self.dropout
        return maps * kept / (1 - self.dropout)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, atoms of the second layer, H / 2, W / 2)."""
        maps = self.norms[0](self.drop(self.codes[0](images)))
        return self.norms[1](max_pool2d(self.drop(self.codes[1](maps)), 2))
