"""Derived seeds, and random draws that do not depend on how workers share a batch."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


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


class BatchDraws:
    """Draw one row for each image of a whole batch and return the rows of this worker.

    Each of ``world_size`` workers has the rows ``rank::world_size`` of a batch and the same
    generator. Every worker draws for all rows, so the numbers do not depend on ``world_size``.
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
        rows = torch.rand(self.whole(like), *shape, generator=self.generator)
        return self.shard(rows).to(like.device) * (high - low) + low

    def integers(self, low: int, high: int, like: Tensor) -> Tensor:
        """Draw integers in [low, high), one for each row of ``like``, on its device."""
        rows = torch.randint(low, high, (self.whole(like),), generator=self.generator)
        return self.shard(rows).to(like.device)

    def flips(self, like: Tensor) -> Tensor:
        """Draw a fair coin for each row of ``like``: (N,) bool."""
        return self.uniform(0.0, 1.0, like) < 0.5


class PartDraws(BatchDraws):
    """Draw one row for each of ``total`` images and return those of one part, ``rows``.

    Work that is divided into parts then sees the same numbers as undivided work.
    """

    def __init__(self, generator: torch.Generator, *, rows: slice, total: int) -> None:
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
