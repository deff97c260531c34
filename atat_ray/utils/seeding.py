"""Seeds are derived, never drawn, and draws do not depend on how workers share a batch."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def derive_seed(*parts: str | int) -> int:
    """Derive a 63-bit seed from names, such as (campaign seed, unit id, stage).

    SHA-256 over the parts joined by NUL, first eight bytes, lowest bit dropped.
    """
    digest = hashlib.sha256("\0".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: str | int) -> torch.Generator:
    """Make a CPU generator from derived parts; draws are moved to the device afterwards."""
    return torch.Generator().manual_seed(derive_seed(*parts))


class BatchDraws:
    """Draw one row an image for the whole batch and hand out the rows of this worker.

    Each of ``world_size`` workers holds the rows ``rank::world_size`` of a batch and the same
    generator. As every worker draws for all rows, one worker and eight see the same numbers.
    """

    def __init__(self, generator: torch.Generator, *, rank: int = 0, world_size: int = 1) -> None:
        self.generator = generator
        self.rank = rank
        self.world_size = world_size

    def whole(self, like: Tensor) -> int:
        """Count the rows of the whole batch, of which ``like`` is this worker's share."""
        return len(like) * self.world_size

    def shard(self, rows: Tensor) -> Tensor:
        """Take this worker's rows of something that the whole batch has."""
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
    """Draw one row an image for ``total`` images and hand out those of a part, ``rows``.

    What is done part by part sees the numbers that it would see if it were done at once.
    """

    def __init__(self, generator: torch.Generator, *, rows: slice, total: int) -> None:
        super().__init__(generator)
        self.rows = rows
        self.total = total

    def whole(self, like: Tensor) -> int:
        """Count the images of all parts."""
        return self.total

    def shard(self, rows: Tensor) -> Tensor:
        """Take the rows of this part."""
        return rows[self.rows]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator inside the block and restore it afterwards.

    For code that takes no generator: the initialisation of torch's own layers.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
