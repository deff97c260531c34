"""Replay an allocation: every way in which the registered design could have fallen.

Complete randomisation within blocks. A statistic is built from sums over the treated units of each
block, so a replay returns only those sums, for any number of columns at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from itertools import combinations
from math import comb, prod

import numpy as np

ENUMERATION_LIMIT = 1_000_000  # allocations; more are sampled
DRAWS = 99_999  # where few units are drawn; see draws_for
_LEAST_DRAWS = 9_999
_BUDGET = 10_000_000  # units drawn in all
_CHUNK = 4_000_000  # units summed at a time, which bounds memory


def draws_for(n: int) -> int:
    """Return how many allocations of ``n`` units are sampled: DRAWS, and fewer above 100 units."""
    return min(DRAWS, max(_LEAST_DRAWS, _BUDGET // max(n, 1)))


def counted(allocations: int) -> str:
    """Write a number of allocations; one of dozens of digits by its size."""
    return f"{allocations:,}" if allocations < 1e9 else f"{Decimal(allocations):.1e}"


def smallest_p(strata: Iterable[tuple[int, int]]) -> float:
    """Return the smallest two-sided p of a design with so many units of two arms in each stratum.

    Of an enumerated design only the most extreme allocation counts, and its mirror image, which is
    an allocation of the design where both arms are as many in every stratum. Of a sampled one the
    observed allocation alone.
    """
    pairs = list(strata)
    allocations = prod(comb(one + other, one) for one, other in pairs)
    if allocations > ENUMERATION_LIMIT:
        return 1 / (1 + draws_for(sum(one + other for one, other in pairs)))
    return min(1.0, (2 if all(one == other for one, other in pairs) else 1) / allocations)


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """The re-allocations of units with arm ``z`` (0 or 1) and block number ``block``, both (n,)."""

    z: np.ndarray
    block: np.ndarray
    seed: int
    sizes: tuple[tuple[int, int], ...] = field(init=False)  # of each block: units, treated
    allocations: int = field(init=False)
    exact: bool = field(init=False)

    def __post_init__(self) -> None:
        sizes = tuple(
            (int((self.block == b).sum()), int(self.z[self.block == b].sum()))
            for b in range(int(self.block.max()) + 1)
        )
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "allocations", prod(comb(n, k) for n, k in sizes))
        object.__setattr__(self, "exact", self.allocations <= ENUMERATION_LIMIT)

    @property
    def draws(self) -> int:
        """Number of sampled allocations; 0 where all are enumerated."""
        return 0 if self.exact else draws_for(len(self.z))

    @property
    def smallest_p(self) -> float:
        """Smallest two-sided p that the design, or this number of draws, can give."""
        return smallest_p([(k, n - k) for n, k in self.sizes])

    def treated_sums(self, values: np.ndarray) -> list[np.ndarray]:
        """Sum ``values`` (n, m) over the units drawn as treated: (allocations or draws, m) a block.

        Of an enumeration each block has its own number of rows, see :meth:`combine`. Of a sample
        the first row is the observed allocation.
        """
        sampled = () if self.exact else _sampled(*self._key())
        sums: list[np.ndarray] = []
        for b, (n, treated) in enumerate(self.sizes):
            inside = self.block == b
            if self.exact:
                drawn = np.zeros((comb(n, treated), n))
                chosen = np.array(list(combinations(range(n), treated)))
                np.put_along_axis(drawn, chosen, 1.0, axis=1)
                sums.append(drawn @ values[inside])
                continue
            rows = max(1, _CHUNK // n)
            parts = [
                sampled[b][start : start + rows].astype(float) @ values[inside]
                for start in range(0, len(sampled[b]), rows)
            ]
            sums.append(np.concatenate(parts))
        return sums

    def _key(self) -> tuple[bytes, bytes, int, int]:
        z, block = self.z.astype(np.int8), self.block.astype(np.intp)
        return z.tobytes(), block.tobytes(), self.seed, self.draws

    def combine(self, by_block: list[np.ndarray]) -> np.ndarray:
        """Add up one number (a,) a block over the blocks: (allocations,) or (1 + draws,)."""
        total = by_block[0]
        for values in by_block[1:]:
            total = np.add.outer(total, values).ravel() if self.exact else total + values
        return total


@lru_cache(maxsize=2)  # several tests of a report replay the same allocation
def _sampled(z: bytes, block: bytes, seed: int, draws: int) -> tuple[np.ndarray, ...]:
    """Draw re-allocations of every block: (1 + draws, units) of 0 and 1, the observed one first."""
    arms, blocks = np.frombuffer(z, dtype=np.int8), np.frombuffer(block, dtype=np.intp)
    generator, found = np.random.default_rng(seed), []
    for b in range(int(blocks.max()) + 1):
        drawn = np.tile(arms[blocks == b], (1 + draws, 1))
        drawn[1:] = generator.permuted(drawn[1:], axis=1)
        found.append(drawn)
    return tuple(found)
