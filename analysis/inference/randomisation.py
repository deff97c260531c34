"""Randomisation test of an effect, and the interval that inverts it.

The design is complete randomisation within blocks. Under the sharp null (no unit's outcome depends
on its arm) every reallocation within blocks was equally likely, so the p-value is a share of
reallocations and needs no model. Where units failed, the finished ones are reallocated. That is
exact if failing does not depend on the arm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.inference.blocked_means import block_weights
from analysis.inference.difference import two_arm_table
from analysis.inference.reallocation import Reallocation, format_count
from analysis.inference.table_checks import NotEstimable
from analysis.schema.columns import clip_difference, unit_of

_MAX_STEPS = 60  # doublings, then halvings, in the search for an end of a studentised interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Randomisation:
    """Randomisation test of the sharp null, two-sided by the absolute blocked difference."""

    arm: str
    against: str
    outcome: str
    statistic: float  # the blocked difference, in the printed unit
    p: float
    allocations: int  # of the registered design
    exact: bool  # whether every allocation was enumerated
    draws: int  # sampled allocations; 0 where exact
    smallest_p: float  # attainable by this design (or by this number of draws)
    low: float  # of the interval for a constant additive effect, by inverting the test;
    high: float  # infinite where the design cannot exclude any effect
    level: float
    unit: str
    studentised: bool  # whether the difference was divided by its Neyman error everywhere

    def __str__(self) -> str:
        how = "exact" if self.exact else f"{self.draws:,} draws"
        kind = "studentised, " if self.studentised else ""
        return (
            f"{self.arm} - {self.against}: {self.statistic:+.3g} {self.unit}, p = {self.p:.4g} "
            f"({kind}{how} over {format_count(self.allocations)} allocations, smallest attainable "
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
    """Compare the observed difference with those of all reallocations within blocks.

    Above ENUMERATION_LIMIT allocations, some are sampled from ``seed`` and the observed one is
    counted among them: p = (1 + b) / (1 + B) (Phipson & Smyth 2010). ``studentised`` divides the
    difference by its Neyman error (Welch's t in one block). The test of equal means then keeps its
    size where spreads differ too (Janssen 1997; Chung & Romano 2013).

    Raises:
        ValueError: the table is not one row a unit, or a fraction is outside [0, 1].
        NotEstimable: an arm has fewer than two units, an outcome is missing, no block holds both
            arms, or a studentised test meets a block with a single unit of an arm.
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
    """Test several outcomes of the same units by the same reallocations.

    Arguments and errors are those of :func:`randomisation_test`.
    """
    narrow = [[c for c in ("unit_id", "block", "arm", o) if c in units] for o in outcomes]
    tables = [
        two_arm_table(units.loc[:, columns], o, arm=arm, against=against)
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
    reallocation = Reallocation(z=z, block=block, seed=seed)
    weights = block_weights(z, block)
    if studentised and min(min(k, n - k) for n, k in reallocation.sizes) < 2:
        raise NotEstimable("a studentised test needs two units of each arm in every block")
    centred = y - np.vstack([y[block == b].mean(axis=0) for b in range(block.max() + 1)])[block]
    columns = np.column_stack([z, centred, centred**2, centred * z[:, None]])
    sums = reallocation.treated_sums(columns)
    m, found = len(outcomes), {}
    for j, outcome in enumerate(outcomes):
        picked = [0, 1 + j, 1 + m + j, 1 + 2 * m + j]
        reference = _Reference(
            reallocation=reallocation,
            weights=weights,
            sums=[s[:, picked] for s in sums],
            totals=[columns[block == b][:, picked].sum(axis=0) for b in range(len(weights))],
            tolerance=_tolerance(y[:, j]),
        )
        found[outcome] = _test(reference, outcome, arm, against, level, studentised)
    return found


def _test(
    reference: _Reference, outcome: str, arm: str, against: str, level: float, studentised: bool
) -> Randomisation:
    """Return the test of one outcome from its reference distribution."""
    test = reference.studentised if studentised else reference.plain
    p, low, high = test(1 - level)
    (low, high), reallocation = clip_difference(low, high, outcome), reference.reallocation
    return Randomisation(
        arm=arm,
        against=against,
        outcome=outcome,
        statistic=reference.observed,
        p=p,
        allocations=reallocation.allocations,
        exact=reallocation.exact,
        draws=reallocation.draws,
        smallest_p=reallocation.smallest_p,
        low=low,
        high=high,
        level=level,
        unit=unit_of(outcome).name,
        studentised=studentised,
    )


def randomisation_p(units: pd.DataFrame, y: np.ndarray, *, arm: str, seed: int) -> np.ndarray:
    """Return p of :func:`randomisation_test` for each column of the outcomes ``y`` (units, m).

    Every block of ``units`` must hold two arms, without a missing outcome. Simulations use it, so
    nothing is checked.
    """
    z = (units["arm"] == arm).to_numpy(dtype=float)
    block = pd.factorize(units["block"])[0]
    reallocation, weights = Reallocation(z=z, block=block, seed=seed), block_weights(z, block)
    columns = np.column_stack([z, y])
    sums, found = reallocation.treated_sums(columns), []
    for j in range(1, columns.shape[1]):
        reference = _Reference(
            reallocation=reallocation,
            weights=weights,
            sums=[s[:, [0, j]] for s in sums],
            totals=[columns[block == b][:, [0, j]].sum(axis=0) for b in range(len(weights))],
            tolerance=_tolerance(columns[:, j]),
        )
        found.append(reference.plain_p())
    return np.array(found)


def _tolerance(y: np.ndarray) -> float:
    """Return the distance below which statistics are tied; its square is above 0 as well."""
    return 1e-9 * max(float(np.ptp(y)), float(np.abs(y).max()), 1e-100)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Reference:
    """Reference distribution of one outcome over all reallocations, for any subtracted effect.

    ``sums`` holds the treated sums of z, y, y^2 and y z of each block, ``totals`` those of all its
    units. For ``y - theta z`` all of them are polynomials in theta, so no allocation is drawn
    again. The plain test needs z and y alone.
    """

    reallocation: Reallocation
    weights: np.ndarray
    sums: list[np.ndarray]
    totals: list[np.ndarray]
    tolerance: float

    def _difference(self, column: int) -> np.ndarray:
        """Return the blocked difference of a column of ``sums`` in every reallocation."""
        parts = [
            w * (s[:, column] / k - (t[column] - s[:, column]) / (n - k))
            for w, s, t, (n, k) in zip(
                self.weights, self.sums, self.totals, self.reallocation.sizes, strict=True
            )
        ]
        return self.reallocation.combine(parts)

    @property
    def observed(self) -> float:
        """The blocked difference of the allocation that was carried out."""
        return float(self._difference(1)[self._observed_row])

    @property
    def _observed_row(self) -> int:
        """Row of the observed allocation: the one whose difference of z is largest, 1."""
        return int(np.argmax(self._difference(0)))

    def plain_p(self) -> float:
        """Return p by the difference itself."""
        reference = self._difference(1)
        observed = abs(float(reference[self._observed_row]))
        return float(np.mean(np.abs(reference) >= observed - self.tolerance))

    def plain(self, alpha: float) -> tuple[float, float, float]:
        """Return p and the interval by the difference itself."""
        reference, overlap = self._difference(1), self._difference(0)
        ends = _invert(reference, overlap, self.observed, alpha, self.tolerance)
        return self.plain_p(), *ends

    def studentised(self, alpha: float) -> tuple[float, float, float]:
        """Return p and the interval by difference over Neyman error; ends by bisection."""
        own = self._observed_row
        p = self._studentised_p(0.0, own)
        if self.reallocation.smallest_p > alpha:
            return p, -np.inf, np.inf
        start = self.observed
        reach = max(100 * self.tolerance, abs(start) / 64, 1e-12)
        ends = [self._end(start, sign * reach, own, alpha) for sign in (-1.0, 1.0)]
        return p, ends[0], ends[1]

    def _studentised_p(self, theta: float, own: int) -> float:
        """Return p of an effect ``theta``: the share of |t| at least that of row ``own``."""
        differences, variances = [], []
        for w, s, t, (n, k) in zip(
            self.weights, self.sums, self.totals, self.reallocation.sizes, strict=True
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
        difference = np.abs(self.reallocation.combine(differences))
        variance = np.maximum(self.reallocation.combine(variances), self.tolerance**2)
        difference = np.where(difference <= self.tolerance, 0.0, difference)
        t_values = difference / np.sqrt(variance)
        return float(np.mean(t_values >= t_values[own] * (1 - 1e-9)))

    def _end(self, start: float, step: float, own: int, alpha: float) -> float:
        """Double the step from the estimate until the test rejects, then bisect."""
        inside, outside = start, start + step
        for _ in range(_MAX_STEPS):
            if self._studentised_p(outside, own) <= alpha + 1e-12:
                break
            inside, step = outside, 2 * step
            outside = start + step
        else:
            return float(np.copysign(np.inf, step))
        for _ in range(_MAX_STEPS):
            if abs(outside - inside) <= max(1e-7 * abs(outside), self.tolerance):
                break
            middle = (inside + outside) / 2
            if self._studentised_p(middle, own) <= alpha + 1e-12:
                outside = middle
            else:
                inside = middle
        return float(outside)


def _invert(
    reference: np.ndarray, overlap: np.ndarray, observed: float, alpha: float, tolerance: float
) -> tuple[float, float]:
    """Return both ends of the constant additive effects that the test does not reject at ``alpha``.

    Let T_a be the statistic of allocation a and c_a its overlap with the observed arm. Allocation a
    counts towards p of the effect theta where |T_a - theta c_a| >= |T - theta|. As |c_a| <= 1, that
    is an interval around T with ends (T - T_a)/(1 - c_a) and (T + T_a)/(1 + c_a). Each limit is
    therefore an order statistic of these ends, and no grid is searched.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        first = (observed - reference) / (1 - overlap)
        second = (observed + reference) / (1 + overlap)
    same, mirror = overlap > 1 - 1e-9, overlap < -1 + 1e-9
    lower = np.where(same | mirror, -np.inf, np.minimum(first, second))
    upper = np.where(same | mirror, np.inf, np.maximum(first, second))
    rejected = int(np.floor(alpha * len(reference) + 1e-9))  # largest count that still rejects
    low, high = np.sort(lower)[rejected], np.sort(upper)[::-1][rejected]
    return float(low) - tolerance, float(high) + tolerance
