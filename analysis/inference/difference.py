"""Estimate the effect of one arm against another from one row a unit.

The unit is the training run. Allocation is complete randomisation within blocks, so arms are
compared within blocks and the blocks averaged (:mod:`analysis.inference.blocked_means`). Every
function takes a plain table with the columns ``unit_id``, ``block``, ``arm`` and the outcome, and
returns numbers in the printed unit of the outcome: percentage points for fractions, see
:mod:`analysis.schema.columns`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.inference.blocked_means import additive_hc2, at_an_end, neyman
from analysis.inference.mover_interval import bounds, critical
from analysis.inference.table_checks import NotEstimable, as_received, check_units, finite
from analysis.schema.columns import unit_of


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmMean:
    """Mean of one arm; ``low`` and ``high`` bound it by a t interval over its units."""

    arm: str
    n: int
    mean: float
    sd: float | None  # None below two units
    minimum: float
    maximum: float
    low: float | None
    high: float | None
    unit: str

    def __str__(self) -> str:
        spread = "" if self.sd is None else f" (SD {self.sd:.3g})"
        return f"{self.arm}: {self.mean:.3g} {self.unit}{spread}, n = {self.n}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Blocked difference in means, ``arm`` minus ``against``."""

    arm: str
    against: str
    outcome: str
    n_arm: int
    n_against: int
    blocks: int  # that hold both arms
    estimate: float
    se: float
    df: float
    of_arms: tuple[tuple[float, float], tuple[float, float]] | None  # (mean, se) of both as
    # fractions, where the interval is made of theirs; None where it is symmetric
    level: float
    unit: str
    method: str
    as_treated: bool = False  # arms as received, which nobody randomised

    def __str__(self) -> str:
        how = "as treated, not randomised; " if self.as_treated else ""
        return (
            f"{self.arm} - {self.against}: {self.estimate:+.3g} {self.unit} "
            f"({self.level:.0%} interval {self.low:+.3g} to {self.high:+.3g}, p = {self.p:.3g}; "
            f"{how}{self.method}, {self.df:.1f} df, n = {self.n_arm} + {self.n_against})"
        )

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.bounds(self.level)[0]

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.bounds(self.level)[1]

    @property
    def p(self) -> float:
        """Two-sided p; below 1 - level where the interval leaves out 0."""
        return float(2 * stats.t.sf(abs(self._statistic(0.0)), self.df))

    def above(self, value: float) -> float:
        """Return the one-sided p of a true difference of ``value`` or less, in the printed unit."""
        return float(stats.t.sf(self._statistic(value), self.df))

    def bounds(self, level: float) -> tuple[float, float]:
        """Return the ends of the two-sided interval at a level."""
        c = stats.t.ppf((1 + level) / 2, self.df)
        if self.of_arms is None:
            return float(self.estimate - c * self.se), float(self.estimate + c * self.se)
        low, high = bounds(*self.of_arms, c, fraction=True)
        return float(self._scale * low), float(self._scale * high)

    def _statistic(self, value: float) -> float:
        """Return the t statistic of a true difference of ``value``."""
        if self.of_arms is None:
            return (self.estimate - value) / self.se
        return _statistic_of(self.of_arms, value / self._scale)

    @property
    def _scale(self) -> float:
        return unit_of(self.outcome).scale


@lru_cache(maxsize=1024)  # tables and sentences ask the same again, and it is found by search
def _statistic_of(arms: tuple[tuple[float, float], tuple[float, float]], value: float) -> float:
    return float(critical(*arms, value, fraction=True))


def arm_means(
    units: pd.DataFrame, outcome: str, arms: list[str], *, level: float = 0.95
) -> list[ArmMean]:
    """Summarise the outcome by arm; arms without a unit are left out.

    The interval is mean +- t(n-1) * sd / sqrt(n): it ignores blocks, which can only widen it.
    """
    unit = unit_of(outcome)
    result: list[ArmMean] = []
    for arm in arms:
        rows = units.loc[units["arm"] == arm]
        if rows.empty:
            continue
        values = unit.scale * finite(rows, outcome)
        n, mean = len(values), float(values.mean())
        sd = float(values.std(ddof=1)) if n > 1 else None
        half = None if sd is None else stats.t.ppf((1 + level) / 2, n - 1) * sd / np.sqrt(n)
        result.append(
            ArmMean(
                arm=arm,
                n=n,
                mean=mean,
                sd=sd,
                minimum=float(values.min()),
                maximum=float(values.max()),
                low=None if half is None else mean - half,
                high=None if half is None else mean + half,
                unit=unit.name,
            )
        )
    return result


def difference_in_means(
    units: pd.DataFrame,
    outcome: str,
    *,
    arm: str,
    against: str,
    level: float = 0.95,
    received: str | None = None,
) -> Difference:
    r"""Estimate the average effect of ``arm`` against ``against``, with its interval and p.

    .. math:: \hat\tau = \sum_b w_b(\bar y_{1b}-\bar y_{0b}),\quad
              V = \sum_b w_b^2 (s_{1b}^2/n_{1b} + s_{0b}^2/n_{0b})

    with the weights of :func:`analysis.inference.blocked_means.block_weights`. Neyman's variance
    for a blocked experiment (Imbens & Rubin 2015, ch. 9), which is HC2 for OLS on arm x block cells
    (Samii & Aronow 2012). Degrees of freedom after Satterthwaite (1946), so one block gives Welch's
    t. Of a fraction the interval is made of limits of the arms that are corrected for skewness
    (:mod:`analysis.inference.mover_interval`), and p inverts it; a symmetric one where all outcomes
    of an arm are 0 or all are 1, as limits of the other never reach those. A cell with a single
    unit has no s: then the same estimate has the HC2 error of OLS on arm and block indicators,
    t(n - k), and a symmetric interval.

    Raises:
        NotEstimable: an arm has fewer than two units, an outcome is missing, or nothing varies.
    """
    table = contrasted(as_received(units, received), outcome, arm=arm, against=against)
    unit = unit_of(outcome)
    z = (table["arm"] == arm).to_numpy()
    block = pd.factorize(table["block"])[0]
    estimate, variance, df, of_arms, method = _compared(
        finite(table, outcome), z, block, fractions=unit.name == "pp"
    )
    if variance == 0:
        raise NotEstimable(f"{outcome} does not vary within arms, so its error is unknown")
    return Difference(
        arm=arm,
        against=against,
        outcome=outcome,
        n_arm=int(z.sum()),
        n_against=int((~z).sum()),
        blocks=int(block.max()) + 1,
        estimate=unit.scale * estimate,
        se=unit.scale * float(np.sqrt(variance)),
        df=df,
        of_arms=of_arms,
        level=level,
        unit=unit.name,
        method=method,
        as_treated=received is not None,
    )


def _compared(
    y: np.ndarray, z: np.ndarray, block: np.ndarray, *, fractions: bool
) -> tuple[float, float, float, Any, str]:
    """Return estimate, variance and df, means and errors of the arms if those count, and how."""
    cells = [np.count_nonzero((block == b) & (z == t)) for b in set(block) for t in (True, False)]
    if min(cells) < 2:
        pairs = (
            "matched pairs, t" if max(cells) == 1 else "OLS with block indicators, HC2, t(n - k)"
        )
        return *additive_hc2(y, z, block), None, pairs
    arms, variance, df = neyman(y[:, None], z, block)
    (m1, v1), (m0, v0) = ((float(m[0]), float(v[0])) for m, v in arms)
    method, of_arms = "Neyman variance, Satterthwaite df" if block.max() else "Welch", None
    if fractions and not at_an_end(y, z):
        of_arms = ((m1, v1**0.5), (m0, v0**0.5))
        method += ", limits of the arms corrected for skewness (MOVER)"
    return m1 - m0, float(variance[0]), float(df[0]), of_arms, method


def difference_p(units: pd.DataFrame, y: np.ndarray, *, arm: str) -> np.ndarray:
    """Return p of :func:`difference_in_means` for fractions ``y`` (units, m), all at once.

    ``units`` holds two arms with two units or more in every block, and nothing is missing. Where
    nothing varies within arms p is 1.
    """
    z = (units["arm"] == arm).to_numpy()
    arms, variance, df = neyman(y, z, pd.factorize(units["block"])[0])
    one, other = ((mean, np.sqrt(v)) for mean, v in arms)
    t = critical(one, other, np.zeros(y.shape[1]), fraction=True)
    error = np.sqrt(np.where(variance > 0, variance, 1.0))
    t = np.where(at_an_end(y, z), (one[0] - other[0]) / error, t)
    return np.where(variance > 0, 2 * stats.t.sf(np.abs(t), df), 1.0)


def contrasted(units: pd.DataFrame, outcome: str, *, arm: str, against: str) -> pd.DataFrame:
    """Keep the units of the two arms in blocks that hold both; refuse what cannot be compared."""
    check_units(units, outcome)
    for name in (arm, against):
        n = int(np.count_nonzero(units["arm"] == name))
        if n < 2:
            raise NotEstimable(f"{name} has {n} finished units, a comparison needs 2 or more")
    table = units.loc[units["arm"].isin([arm, against])]
    held = [set(table["block"][table["arm"] == name]) for name in (arm, against)]
    table = table.loc[table["block"].isin(held[0] & held[1])]
    if table.empty:
        raise NotEstimable(f"no block holds finished units of both {arm} and {against}")
    finite(table, outcome)
    return table


def design_of(table: pd.DataFrame, arm: str) -> np.ndarray:
    """Return the arm's indicator and one indicator a block, (n, 1 + blocks)."""
    z = (table["arm"] == arm).to_numpy(dtype=float)
    block = pd.factorize(table["block"])[0]
    return np.column_stack([z, block[:, None] == np.arange(block.max() + 1)]).astype(float)
