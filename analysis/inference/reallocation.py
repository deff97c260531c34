"""Reallocations of units to arms: every allocation that the registered design could have drawn.

The design is complete randomisation within blocks. A statistic is built from sums over the treated
units of each block, so a :class:`Reallocation` returns only those sums, for any number of columns
at once. Other values than two arms are permuted by :func:`permute_within_blocks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from itertools import combinations
from math import comb, prod

import numpy as np

ENUMERATION_LIMIT = 1_000_000  # designs with more allocations are sampled
DRAWS = 99_999  # sampled allocations; see draws_for
_BUDGET = 10_000_000  # units drawn over all sampled allocations
_CHUNK = 4_000_000  # units summed at a time, which bounds memory


def draws_for(n: int, most: int | None = None) -> int:
    """Return how many allocations of ``n`` units are sampled: ``most`` (DRAWS unless given).

    Large designs take fewer, so that 10 million units are drawn in all, but at least a tenth of
    ``most``.
    """
    most = DRAWS if most is None else most
    return min(most, max(most // 10, _BUDGET // max(n, 1)))


def format_count(allocations: int) -> str:
    """Format a number of allocations: in full below 10^9, above as a power of ten."""
    return f"{allocations:,}" if allocations < 1e9 else f"{Decimal(allocations):.1e}"


def smallest_p(strata: Iterable[tuple[int, int]]) -> float:
    """Return the smallest two-sided p that a design can give.

    ``strata`` holds the numbers of units of the two arms in each stratum. Of an enumerated design
    the most extreme allocation counts, and its mirror image too if that is an allocation of the
    design, which it is where both arms have equal numbers in every stratum. Of a sampled design the
    observed allocation alone counts.
    """
    pairs = list(strata)
    allocations = prod(comb(one + other, one) for one, other in pairs)
    if allocations > ENUMERATION_LIMIT:
        return 1 / (1 + draws_for(sum(one + other for one, other in pairs)))
    return min(1.0, (2 if all(one == other for one, other in pairs) else 1) / allocations)


def permute_within_blocks(
    values: np.ndarray, block: np.ndarray, *, draws: int, seed: int
) -> np.ndarray:
    """Permute ``values`` (n,) within blocks, ``draws`` times.

    Args:
        values: what is permuted: arm numbers, 0/1 arms or doses, (n,).
        block: number of each unit's block from 0, (n,).
        draws: number of permutations.
        seed: of the permutations.

    Returns:
        (1 + draws, n); row 0 holds the values as observed.
    """
    drawn = np.empty((1 + draws, len(values)), dtype=values.dtype)
    for rows, permuted in _permuted_blocks(values, block, draws, seed):
        drawn[:, rows] = permuted
    return drawn


def _permuted_blocks(
    values: np.ndarray, block: np.ndarray, draws: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the rows of each block and their values (1 + draws, rows), the observed ones first."""
    generator = np.random.default_rng(seed)
    for b in range(int(max(block, default=-1)) + 1):
        rows = np.flatnonzero(block == b)
        permuted = np.tile(values[rows], (1 + draws, 1))
        generator.permuted(permuted[1:], axis=1, out=permuted[1:])
        yield rows, permuted


@dataclass(frozen=True, kw_only=True, slots=True)
class Reallocation:
    """The reallocations of units with arm ``z`` (0 or 1) and block number ``block``, both (n,).

    Up to ENUMERATION_LIMIT allocations are enumerated; of larger designs some are sampled from
    ``seed``.
    """

    z: np.ndarray
    block: np.ndarray
    seed: int
    sizes: tuple[tuple[int, int], ...] = field(init=False)  # of each block: units, treated
    allocations: int = field(init=False)  # of the design
    exact: bool = field(init=False)  # whether they are enumerated

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
        """Sum ``values`` (n, m) over the treated units of each block in every reallocation.

        Returns:
            For each block an array (rows, m). Of an enumeration, rows are the allocations of that
            block, and :meth:`combine` crosses them. Of a sample, rows are the 1 + draws sampled
            allocations, the observed one first.
        """
        sampled = () if self.exact else _sample(*self._key())
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
        """Return the hashable arguments of :func:`_sample`."""
        z, block = self.z.astype(np.int8), self.block.astype(np.intp)
        return z.tobytes(), block.tobytes(), self.seed, self.draws

    def combine(self, by_block: list[np.ndarray]) -> np.ndarray:
        """Add one number for each block and row over the blocks.

        Returns:
            (allocations,) of an enumeration, (1 + draws,) of a sample.
        """
        total = by_block[0]
        for values in by_block[1:]:
            total = np.add.outer(total, values).ravel() if self.exact else total + values
        return total


@lru_cache(maxsize=2)  # several tests of a report use the same reallocations
def _sample(z: bytes, block: bytes, seed: int, draws: int) -> tuple[np.ndarray, ...]:
    """Sample reallocations: for each block (1 + draws, units) of 0 and 1, the observed one first.

    ``z`` holds int8 and ``block`` intp, as bytes so that they can be hashed.
    """
    arms, blocks = np.frombuffer(z, dtype=np.int8), np.frombuffer(block, dtype=np.intp)
    return tuple(permuted for _, permuted in _permuted_blocks(arms, blocks, draws, seed))
