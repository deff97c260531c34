"""Derived seeds, and random draws that do not depend on how workers share a batch."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import torch
from torch import Tensor

from atat_ray.utils.device import to_device

MANY = 2**16  # numbers of one draw from which a GPU draws them itself


def derive_seed(*parts: str | int) -> int:
    """Derive a 63-bit seed from names, such as (campaign seed, unit id, stage).

    The seed is the first eight bytes of the SHA-256 of the parts, joined by NUL, without the lowest
    bit.

    >>> derive_seed(7, "unit", "train") == derive_seed("7", "unit", "train")
    True
    """
    digest = hashlib.sha256("\0".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: str | int) -> torch.Generator:
    """Return a CPU generator seeded by :func:`derive_seed`; move its draws to the device."""
    return torch.Generator().manual_seed(derive_seed(*parts))


def generator_on(device: torch.device, source: torch.Generator) -> torch.Generator:
    """Return a generator on a device, seeded by one draw of a CPU generator."""
    seed = int(torch.randint(2**62, (), generator=source))
    return torch.Generator(device).manual_seed(seed)


class BatchDraws:
    """Draw one row for each image of a whole batch and return the rows of this worker.

    Each of ``world_size`` workers has the rows ``rank::world_size`` of a batch and the same
    generator. Every worker draws for all rows, so the numbers do not depend on ``world_size``.

    Numbers are drawn on the CPU and copied. Only many uniform numbers, such as one for each pixel,
    are drawn by a GPU itself, because the CPU would take longer than the rest of a training step.
    Those depend on the model of the GPU.
    """

    def __init__(self, generator: torch.Generator, *, rank: int = 0, world_size: int = 1) -> None:
        self.generator = generator
        self.rank = rank
        self.world_size = world_size

    def whole(self, like: Tensor) -> int:
        """Count the rows of the whole batch, given this worker's rows."""
        return len(like) * self.world_size

    def shard(self, rows: Tensor) -> Tensor:
        """Select this worker's rows from the rows of the whole batch."""
        return rows[self.rank :: self.world_size]

    def uniform(self, low: float, high: float, like: Tensor, *shape: int) -> Tensor:
        """Draw U[low, high) of shape (len(like), *shape) on the device of ``like``."""
        whole = self.whole(like), *shape
        if like.is_cuda and prod(whole) >= MANY:
            there = generator_on(like.device, self.generator)
            rows = self.shard(torch.rand(whole, generator=there, device=like.device))
        else:
            rows = to_device(self.shard(torch.rand(whole, generator=self.generator)), like.device)
        return rows * (high - low) + low

    def integers(self, low: int, high: int, like: Tensor) -> Tensor:
        """Draw integers in [low, high), one for each row of ``like``, on its device."""
        rows = torch.randint(low, high, (self.whole(like),), generator=self.generator)
        return to_device(self.shard(rows), like.device)

    def flips(self, like: Tensor) -> Tensor:
        """Draw a fair coin for each row of ``like``: (N,) bool."""
        return self.uniform(0.0, 1.0, like) < 0.5


class PartDraws(BatchDraws):
    """Draw one row for each of ``total`` images and return those of one part, ``rows``.

    Work that is divided into parts then sees the same numbers as undivided work.
    """

    def __init__(self, generator: torch.Generator, *, rows: slice | Tensor, total: int) -> None:
        super().__init__(generator)
        self.rows = rows
        self.total = total

    def whole(self, like: Tensor) -> int:
        """Count the images of all parts."""
        return self.total

    def shard(self, rows: Tensor) -> Tensor:
        """Select the rows of this part."""
        return rows[self.rows]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator inside the block and restore it afterwards.

    This is for code that takes no generator, such as the initialisation of torch's layers.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
