"""Difference in means of two arms, from a table with one row a unit.

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

from analysis.inference.blocked_means import arm_at_bound, neyman, variance_method
from analysis.inference.mover_interval import critical_value, difference_limits
from analysis.inference.ols import block_indicators
from analysis.inference.table_checks import (
    NotEstimable,
    check_units,
    counted,
    outcome_values,
    use_received_arm,
)
from analysis.schema.columns import clip_difference, clip_mean, unit_of


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmMean:
    """Mean of one arm in the printed unit, with a t interval over its units."""

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
    """Blocked difference in means, ``arm`` minus ``against``, in the printed unit."""

    arm: str
    against: str
    outcome: str
    n_arm: int
    n_against: int
    blocks: int  # that hold both arms
    estimate: float
    se: float
    df: float
    # (mean, standard error) of both arms as fractions, where the interval combines the limits of
    # the arms; None where it is symmetric
    arm_estimates: tuple[tuple[float, float], tuple[float, float]] | None
    level: float
    unit: str
    method: str
    as_treated: bool = False  # units count in the arm that they received, which is not randomised

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
        """Two-sided p; below 1 - level exactly where the interval excludes 0."""
        return float(2 * stats.t.sf(abs(self._statistic(0.0)), self.df))

    def p_above(self, value: float) -> float:
        """Return the one-sided p against a true difference of at most ``value`` (printed unit)."""
        return float(stats.t.sf(self._statistic(value), self.df))

    def bounds(self, level: float) -> tuple[float, float]:
        """Return the ends of the two-sided interval at ``level``, within the possible values."""
        c = stats.t.ppf((1 + level) / 2, self.df)
        if self.arm_estimates is None:
            low, high = self.estimate - c * self.se, self.estimate + c * self.se
            return clip_difference(float(low), float(high), self.outcome)
        low, high = difference_limits(*self.arm_estimates, c, fraction=True)
        return float(self._scale * low), float(self._scale * high)

    def _statistic(self, value: float) -> float:
        """Return the t statistic of a true difference of ``value``."""
        if self.arm_estimates is None:
            return (self.estimate - value) / self.se
        return _mover_statistic(self.arm_estimates, value / self._scale)

    @property
    def _scale(self) -> float:
        return unit_of(self.outcome).scale


@lru_cache(maxsize=1024)  # found by search, and a report needs the same value many times
def _mover_statistic(arms: tuple[tuple[float, float], tuple[float, float]], value: float) -> float:
    """Return the critical value at which the interval of fractions ends at ``value``."""
    return float(critical_value(*arms, value, fraction=True))


def arm_means(
    units: pd.DataFrame, outcome: str, arms: list[str], *, level: float = 0.95
) -> list[ArmMean]:
    """Summarise the outcome of each arm; arms without a unit are left out.

    The interval is mean +- t(n-1) * sd / sqrt(n), cut at the possible values. It ignores blocks,
    which can only widen it.
    """
    unit = unit_of(outcome)
    result: list[ArmMean] = []
    for arm in arms:
        rows = units.loc[units["arm"] == arm]
        if rows.empty:
            continue
        values = unit.scale * outcome_values(rows, outcome)
        n, mean = len(values), float(values.mean())
        sd = float(values.std(ddof=1)) if n > 1 else None
        low = high = None
        if sd is not None:
            half = stats.t.ppf((1 + level) / 2, n - 1) * sd / np.sqrt(n)
            low, high = clip_mean(float(mean - half), float(mean + half), outcome)
        result.append(
            ArmMean(
                arm=arm,
                n=n,
                mean=mean,
                sd=sd,
                minimum=float(values.min()),
                maximum=float(values.max()),
                low=low,
                high=high,
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
    r"""Estimate the average effect of ``arm`` against ``against``, with interval and p.

    .. math:: \hat\tau = \sum_b w_b(\bar y_{1b}-\bar y_{0b}),\quad
              V = \sum_b w_b^2 (s_{1b}^2/n_{1b} + s_{0b}^2/n_{0b})

    with the weights of :func:`analysis.inference.blocked_means.block_weights`. V is Neyman's
    variance for a blocked experiment (Imbens & Rubin 2015, ch. 9), which is HC2 for OLS on arm x
    block cells (Samii & Aronow 2012). Degrees of freedom are Satterthwaite's (1946), reduced where
    arms have unequal numbers, so one block of equal arms gives Welch's t. A cell with a single unit
    has no s: :func:`analysis.inference.blocked_means.neyman` has its variance. Matched pairs give
    the paired t.

    The interval of a fraction combines limits of both arms that are corrected for skewness
    (:mod:`analysis.inference.mover_interval`), and p inverts it. Where all outcomes of an arm are 0
    or all are 1 the interval is symmetric: limits of the other arm never reach 0 or 1, so they
    would exclude an effect of 0 for any outcomes.

    ``received`` names the column of the arm that each unit received. If given, units count in that
    arm (as treated) and not in the allocated one, and the comparison is not randomised.

    Raises:
        NotEstimable: an arm has fewer than two units, an outcome is missing, or nothing varies
            within arms.
    """
    table = two_arm_table(use_received_arm(units, received), outcome, arm=arm, against=against)
    unit = unit_of(outcome)
    z = (table["arm"] == arm).to_numpy()
    block = pd.factorize(table["block"])[0]
    estimate, variance, df, arm_estimates, method = _compare(
        outcome_values(table, outcome), z, block, fractions=unit.name == "pp"
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
        arm_estimates=arm_estimates,
        level=level,
        unit=unit.name,
        method=method,
        as_treated=received is not None,
    )


def _compare(
    y: np.ndarray, z: np.ndarray, block: np.ndarray, *, fractions: bool
) -> tuple[float, float, float, Any, str]:
    """Return estimate, variance, df, ``arm_estimates`` and ``method`` of a :class:`Difference`.

    ``fractions`` says whether outcomes are fractions.
    """
    arms, variance, df = neyman(y[:, None], z, block)
    (m1, v1), (m0, v0) = ((float(m[0]), float(v[0])) for m, v in arms)
    method, arm_estimates = variance_method(z, block), None
    if fractions and not arm_at_bound(y, z):
        arm_estimates = ((m1, v1**0.5), (m0, v0**0.5))
        method += ", limits of the arms corrected for skewness (MOVER)"
    return m1 - m0, float(variance[0]), float(df[0]), arm_estimates, method


def difference_p(units: pd.DataFrame, y: np.ndarray, *, arm: str) -> np.ndarray:
    """Return p of :func:`difference_in_means` for each column of the fractions ``y`` (units, m).

    Every block of ``units`` must hold both arms, without a missing outcome. Where nothing varies
    within arms p is 1. Simulations use it, so nothing is checked.
    """
    z = (units["arm"] == arm).to_numpy()
    arms, variance, df = neyman(y, z, pd.factorize(units["block"])[0])
    one, other = ((mean, np.sqrt(v)) for mean, v in arms)
    t = critical_value(one, other, np.zeros(y.shape[1]), fraction=True)
    error = np.sqrt(np.where(variance > 0, variance, 1.0))
    t = np.where(arm_at_bound(y, z), (one[0] - other[0]) / error, t)
    return np.where(variance > 0, 2 * stats.t.sf(np.abs(t), df), 1.0)


def two_arm_table(units: pd.DataFrame, outcome: str, *, arm: str, against: str) -> pd.DataFrame:
    """Return the units of two arms in the blocks that hold both, after checking them.

    Raises:
        ValueError: a column is missing, a unit occurs twice, or a fraction is outside [0, 1].
        NotEstimable: an arm has fewer than two units, no block holds both arms, or an outcome is
            missing.
    """
    check_units(units, outcome)
    _check_numbers(units, (arm, against))
    table = units.loc[units["arm"].isin([arm, against])]
    held = [set(table["block"][table["arm"] == name]) for name in (arm, against)]
    table = table.loc[table["block"].isin(held[0] & held[1])]
    if table.empty:
        raise NotEstimable(f"no block holds finished units of both {arm} and {against}")
    _check_numbers(table, (arm, against), where=" in the blocks that hold both arms")
    outcome_values(table, outcome)
    return table


def _check_numbers(table: pd.DataFrame, arms: tuple[str, str], where: str = "") -> None:
    """Raise NotEstimable for an arm with fewer than two units."""
    for name in arms:
        n = int(np.count_nonzero(table["arm"] == name))
        if n < 2:
            units = counted(n, "finished unit")
            raise NotEstimable(f"{name} has {units}{where}, a comparison needs 2 or more")


def design_matrix(table: pd.DataFrame, arm: str) -> np.ndarray:
    """Return the indicator of ``arm`` and one indicator for each block, (n, 1 + blocks)."""
    z = (table["arm"] == arm).to_numpy(dtype=float)
    return np.column_stack([z, block_indicators(pd.factorize(table["block"])[0])])
