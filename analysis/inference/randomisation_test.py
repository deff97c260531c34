"""Test and bound an effect by replaying the allocation that was registered.

Complete randomisation within blocks: under the sharp null (no unit's outcome depends on its arm)
every within-block re-allocation was equally likely, so the p-value is a count and needs no model.
Where units failed, the finished ones are re-allocated: exact if failing does not depend on the arm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.inference.blocked_means import block_weights
from analysis.inference.difference import contrasted
from analysis.inference.reallocation import Replay, counted
from analysis.inference.table_checks import NotEstimable
from analysis.schema.columns import unit_of

_REACH = 60  # doublings and halvings in the search for an end of a studentised interval


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
    draws: int  # sampled allocations; 0 where exact
    smallest_p: float  # attainable by this design (or by this number of draws)
    low: float  # interval for a constant additive effect, by inverting the test;
    high: float  # infinite where the design cannot exclude any effect
    level: float
    unit: str
    studentised: bool  # the difference was divided by its Neyman error in every allocation

    def __str__(self) -> str:
        how = "exact" if self.exact else f"{self.draws:,} draws"
        kind = "studentised, " if self.studentised else ""
        return (
            f"{self.arm} - {self.against}: {self.statistic:+.3g} {self.unit}, p = {self.p:.4g} "
            f"({kind}{how} over {counted(self.allocations)} allocations, smallest attainable "
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
    studentised: bool = False,
) -> Randomisation:
    """Compare the observed difference with those of all re-allocations within blocks.

    Above ENUMERATION_LIMIT allocations, some are sampled from ``seed`` and the observed one is
    counted among them: p = (1 + b) / (1 + B) (Phipson & Smyth 2010). ``studentised`` divides the
    difference by its Neyman error (Welch's t in one block), which keeps the size for equal means
    also where spreads differ (Janssen 1997; Chung & Romano 2013).
    """
    kwargs = {"arm": arm, "against": against, "seed": seed, "level": level}
    return randomisation_tests(units, [outcome], **kwargs, studentised=studentised)[outcome]


def randomisation_tests(
    units: pd.DataFrame,
    outcomes: list[str],
    *,
    arm: str,
    against: str,
    seed: int,
    level: float = 0.95,
    studentised: bool = False,
) -> dict[str, Randomisation]:
    """Test several outcomes of the same units by the same re-allocations; see the single test."""
    narrow = [[c for c in ("unit_id", "block", "arm", o) if c in units] for o in outcomes]
    tables = [
        contrasted(units.loc[:, columns], o, arm=arm, against=against)
        for columns, o in zip(narrow, outcomes, strict=True)
    ]
    table = tables[0]
    y = np.column_stack(
        [
            unit_of(o).scale * t[o].to_numpy(dtype=float)
            for o, t in zip(outcomes, tables, strict=True)
        ]
    )
    z = (table["arm"] == arm).to_numpy(dtype=float)
    block = pd.factorize(table["block"])[0]
    replay = Replay(z=z, block=block, seed=seed)
    weights = block_weights(z, block)
    if studentised and min(min(k, n - k) for n, k in replay.sizes) < 2:
        raise NotEstimable("a studentised test needs two units of each arm in every block")
    centred = y - np.vstack([y[block == b].mean(axis=0) for b in range(block.max() + 1)])[block]
    columns = np.column_stack([z, centred, centred**2, centred * z[:, None]])
    sums = replay.treated_sums(columns)
    m, found = len(outcomes), {}
    for j, outcome in enumerate(outcomes):
        picked = [0, 1 + j, 1 + m + j, 1 + 2 * m + j]
        walk = _Walk(
            replay=replay,
            weights=weights,
            sums=[s[:, picked] for s in sums],
            totals=[columns[block == b][:, picked].sum(axis=0) for b in range(len(weights))],
            tolerance=_tolerance(y[:, j]),
        )
        p, low, high = walk.studentised(1 - level) if studentised else walk.plain(1 - level)
        found[outcome] = Randomisation(
            arm=arm,
            against=against,
            outcome=outcome,
            statistic=walk.observed,
            p=p,
            allocations=replay.allocations,
            exact=replay.exact,
            draws=replay.draws,
            smallest_p=replay.smallest_p,
            low=low,
            high=high,
            level=level,
            unit=unit_of(outcome).name,
            studentised=studentised,
        )
    return found


def randomisation_p(units: pd.DataFrame, y: np.ndarray, *, arm: str, seed: int) -> np.ndarray:
    """Return p of :func:`randomisation_test` for outcomes ``y`` (units, m), without intervals.

    Every block of ``units`` holds two arms, and nothing is missing: simulations need no checks.
    """
    z = (units["arm"] == arm).to_numpy(dtype=float)
    block = pd.factorize(units["block"])[0]
    replay, weights = Replay(z=z, block=block, seed=seed), block_weights(z, block)
    columns = np.column_stack([z, y])
    sums, found = replay.treated_sums(columns), []
    for j in range(1, columns.shape[1]):
        walk = _Walk(
            replay=replay,
            weights=weights,
            sums=[s[:, [0, j]] for s in sums],
            totals=[columns[block == b][:, [0, j]].sum(axis=0) for b in range(len(weights))],
            tolerance=_tolerance(columns[:, j]),
        )
        found.append(walk.plain_p())
    return np.array(found)


def _tolerance(y: np.ndarray) -> float:
    """Return how far apart two statistics may be and still tie: rounding, relative to the data."""
    return 1e-9 * max(float(np.ptp(y)), float(np.abs(y).max()), 1e-300)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Walk:
    """Statistics of one outcome over all re-allocations, for any subtracted effect.

    ``sums`` holds the treated sums of z, y, y^2 and y z of each block, ``totals`` those of all its
    units. On ``y - theta z`` all of them are polynomials in theta, so no grid is drawn again.
    """

    replay: Replay
    weights: np.ndarray
    sums: list[np.ndarray]
    totals: list[np.ndarray]
    tolerance: float

    def _difference(self, column: int) -> np.ndarray:
        parts = [
            w * (s[:, column] / k - (t[column] - s[:, column]) / (n - k))
            for w, s, t, (n, k) in zip(
                self.weights, self.sums, self.totals, self.replay.sizes, strict=True
            )
        ]
        return self.replay.combine(parts)

    @property
    def observed(self) -> float:
        """The blocked difference of the allocation that was carried out."""
        return float(self._difference(1)[self._own])

    @property
    def _own(self) -> int:
        return int(np.argmax(self._difference(0)))  # only the observed one overlaps itself wholly

    def plain_p(self) -> float:
        """Return p by the difference itself."""
        reference = self._difference(1)
        observed = abs(float(reference[self._own]))
        return float(np.mean(np.abs(reference) >= observed - self.tolerance))

    def plain(self, alpha: float) -> tuple[float, float, float]:
        """Return p and the interval by the difference itself."""
        reference, overlap = self._difference(1), self._difference(0)
        observed = float(reference[np.argmax(overlap)])
        return (
            self.plain_p(),
            *_invert(reference, overlap, observed, alpha, self.tolerance),
        )

    def studentised(self, alpha: float) -> tuple[float, float, float]:
        """Return p and the interval by difference over Neyman error; ends by bisection."""
        own = self._own
        p = self._p(0.0, own)
        if self.replay.smallest_p > alpha:
            return p, -np.inf, np.inf
        start = self.observed
        reach = max(100 * self.tolerance, abs(start) / 64, 1e-12)
        ends = [self._end(start, sign * reach, own, alpha) for sign in (-1.0, 1.0)]
        return p, ends[0], ends[1]

    def _p(self, theta: float, own: int) -> float:
        """Return the share of allocations with |t| at least that of the observed one."""
        differences, variances = [], []
        for w, s, t, (n, k) in zip(
            self.weights, self.sums, self.totals, self.replay.sizes, strict=True
        ):
            first = s[:, 1] - theta * s[:, 0]
            square = s[:, 2] - 2 * theta * s[:, 3] + theta**2 * s[:, 0]
            all_first = t[1] - theta * t[0]
            all_square = t[2] - 2 * theta * t[3] + theta**2 * t[0]
            rest, rest_square = all_first - first, all_square - square
            differences.append(w * (first / k - rest / (n - k)))
            spread = (square - first**2 / k) / (k - 1) / k
            rest_spread = (rest_square - rest**2 / (n - k)) / (n - k - 1) / (n - k)
            variances.append(w**2 * (spread + rest_spread))
        difference = np.abs(self.replay.combine(differences))
        variance = np.maximum(self.replay.combine(variances), self.tolerance**2)
        difference = np.where(difference <= self.tolerance, 0.0, difference)
        t_values = difference / np.sqrt(variance)
        return float(np.mean(t_values >= t_values[own] * (1 - 1e-9)))

    def _end(self, start: float, step: float, own: int, alpha: float) -> float:
        """Walk from the estimate until the test rejects, then halve the bracket."""
        inside, outside = start, start + step
        for _ in range(_REACH):
            if self._p(outside, own) <= alpha + 1e-12:
                break
            inside, step = outside, 2 * step
            outside = start + step
        else:
            return float(np.copysign(np.inf, step))
        for _ in range(_REACH):
            if abs(outside - inside) <= max(1e-7 * abs(outside), self.tolerance):
                break
            middle = (inside + outside) / 2
            if self._p(middle, own) <= alpha + 1e-12:
                outside = middle
            else:
                inside = middle
        return float(outside)


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
