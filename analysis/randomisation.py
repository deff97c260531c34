"""Test and bound an effect by replaying the allocation that was registered.

Complete randomisation within blocks: under the sharp null (no unit's outcome depends on its arm)
every within-block re-allocation was equally likely, so the p-value is a count and needs no model.
Where units failed, the finished ones are re-allocated: exact if failing does not depend on the arm.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb, prod

import numpy as np
import pandas as pd

from analysis.effects import block_weights, contrasted
from analysis.labels import unit_of

ENUMERATION_LIMIT = 1_000_000  # allocations; more are sampled
DRAWS = 99_999


@dataclass(frozen=True, kw_only=True, slots=True)
class Randomisation:
    """Randomisation test of the sharp null, two-sided by the absolute blocked difference."""

    arm: str
    against: str
    outcome: str
    statistic: float  # the blocked difference, in the printed unit
    p: float
    allocations: int  # of the registered design
    exact: bool  # every allocation was enumerated
    smallest_p: float  # attainable by this design (or by this number of draws)
    low: float  # interval for a constant additive effect, by inverting the test;
    high: float  # infinite where the design cannot exclude any effect
    level: float
    unit: str

    def __str__(self) -> str:
        how = "exact" if self.exact else f"{DRAWS:,} draws"
        return (
            f"{self.arm} - {self.against}: {self.statistic:+.3g} {self.unit}, p = {self.p:.4g} "
            f"({how} over {self.allocations:,} allocations, smallest attainable "
            f"{self.smallest_p:.2g})"
        )


def randomisation_test(
    units: pd.DataFrame,
    outcome: str,
    *,
    arm: str,
    against: str,
    seed: int,
    level: float = 0.95,
) -> Randomisation:
    """Compare the observed difference with those of all re-allocations within blocks.

    Above ENUMERATION_LIMIT allocations, DRAWS are sampled from ``seed`` and the observed one is
    counted among them: p = (1 + b) / (1 + B) (Phipson & Smyth 2010).
    """
    table = contrasted(units, outcome, arm=arm, against=against)
    unit = unit_of(outcome)
    y = unit.scale * table[outcome].to_numpy(dtype=float)
    z = (table["arm"] == arm).to_numpy(dtype=float)
    block = pd.factorize(table["block"])[0]
    sizes = [(int((block == b).sum()), int(z[block == b].sum())) for b in range(block.max() + 1)]
    allocations = prod(comb(n, k) for n, k in sizes)
    exact = allocations <= ENUMERATION_LIMIT
    generator = None if exact else np.random.default_rng(seed)
    reference, overlap = _reallocate(y, z, block, generator)
    observed = float(reference[np.argmax(overlap)])  # only it overlaps itself wholly
    p = float(np.mean(np.abs(reference) >= abs(observed) - _tolerance(y)))
    low, high = _invert(reference, overlap, observed, 1 - level, _tolerance(y))
    mirrored = all(n == 2 * k for n, k in sizes)  # then T and -T are equally likely
    return Randomisation(
        arm=arm,
        against=against,
        outcome=outcome,
        statistic=observed,
        p=p,
        allocations=allocations,
        exact=exact,
        smallest_p=(2 if mirrored else 1) / allocations if exact else 1 / (1 + DRAWS),
        low=low,
        high=high,
        level=level,
        unit=unit.name,
    )


def _tolerance(y: np.ndarray) -> float:
    """Return how far apart two statistics may be and still tie: rounding, relative to the data."""
    return 1e-9 * max(float(np.ptp(y)), float(np.abs(y).max()), 1e-300)


def _reallocate(
    y: np.ndarray, z: np.ndarray, block: np.ndarray, generator: np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the statistic under each re-allocation, of the outcome and of the observed arm.

    The statistic is linear in its data, so on ``y - theta * z`` it is the first minus theta times
    the second: all that inverting the test takes.
    """
    reference, overlap = np.zeros(1), np.zeros(1)
    for b, weight in enumerate(block_weights(z, block)):
        inside = block == b
        n, treated = int(inside.sum()), int(z[inside].sum())
        if generator is None:
            drawn = np.zeros((comb(n, treated), n))
            chosen = np.array(list(combinations(range(n), treated)))
            np.put_along_axis(drawn, chosen, 1.0, axis=1)
        else:
            sampled = generator.permuted(np.tile(z[inside], (DRAWS, 1)), axis=1)
            drawn = np.vstack([z[inside], sampled])
        contrast = weight * (drawn / treated - (1 - drawn) / (n - treated))
        of_y, of_z = contrast @ y[inside], contrast @ z[inside]
        if generator is None:
            reference = np.add.outer(reference, of_y).ravel()
            overlap = np.add.outer(overlap, of_z).ravel()
        else:
            reference, overlap = reference + of_y, overlap + of_z
    return reference, overlap


def _invert(
    reference: np.ndarray, overlap: np.ndarray, observed: float, alpha: float, tolerance: float
) -> tuple[float, float]:
    """Return the constant additive effects that the test does not reject at ``alpha``.

    With T_a the statistic of allocation a and c_a its overlap with the observed arm, a counts
    against effect theta when |T_a - theta c_a| >= |T - theta|. As |c_a| <= 1 that is an interval
    around T with ends (T - T_a)/(1 - c_a) and (T + T_a)/(1 + c_a), so each limit is an order
    statistic of the ends and no grid is searched.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        first = (observed - reference) / (1 - overlap)
        second = (observed + reference) / (1 + overlap)
    same, mirror = overlap > 1 - 1e-9, overlap < -1 + 1e-9
    lower = np.where(same | mirror, -np.inf, np.minimum(first, second))
    upper = np.where(same | mirror, np.inf, np.maximum(first, second))
    rejected = int(np.floor(alpha * len(reference) + 1e-9))  # so many may count and still reject
    low, high = np.sort(lower)[rejected], np.sort(upper)[::-1][rejected]
    return float(low) - tolerance, float(high) + tolerance
