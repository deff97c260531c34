"""Estimate the effect of one arm against another from one row a unit.

The unit is the training run. Allocation is complete randomisation within blocks, so arms are
compared within blocks and the blocks averaged with the weights of :func:`block_weights`. Every
function takes a plain table with the columns ``unit_id``, ``block``, ``arm`` and the outcome, and
returns numbers in the printed unit of the outcome (percentage points for fractions, see
:mod:`analysis.labels`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from analysis.checks import NotEstimable, as_received, check_units, finite
from analysis.labels import unit_of
from analysis.skewness import corrected, third_moment, uncorrected

__all__ = [
    "ArmMean",
    "Difference",
    "NotEstimable",
    "arm_means",
    "block_weights",
    "contrasted",
    "design_of",
    "difference_in_means",
    "difference_p",
]


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
    skewness: float  # of the estimate; 0 where it is not corrected for
    low: float
    high: float
    p: float  # two-sided; below 1 - level where the interval leaves out 0
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

    def above(self, value: float) -> float:
        """Return the one-sided p of a true difference of ``value`` or less, in the printed unit."""
        t = corrected((self.estimate - value) / self.se, self.skewness)
        return float(stats.t.sf(t, self.df))

    def bounds(self, level: float) -> tuple[float, float]:
        """Return the ends of the two-sided interval at a level."""
        reach = stats.t.ppf((1 + level) / 2, self.df)
        low, high = (uncorrected(x, self.skewness) for x in (reach, -reach))
        return float(self.estimate - self.se * low), float(self.estimate - self.se * high)


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

    with the weights of :func:`block_weights`. Neyman's variance for a blocked experiment (Imbens &
    Rubin 2015, ch. 9), which is HC2 for OLS on arm x block cells (Samii & Aronow 2012). Degrees of
    freedom after Satterthwaite (1946), so one block gives Welch's t. Where every cell has three
    units the t statistic is corrected for the skewness of the estimate (:mod:`analysis.skewness`),
    with :math:`\hat\mu_3 = \sum_b w_b^3 (k_{1b}/n_{1b}^2 - k_{0b}/n_{0b}^2)`. A cell with a single
    unit has no s: then the same estimate has the HC2 error of OLS on arm and block indicators,
    t(n - k).

    Raises:
        NotEstimable: an arm has fewer than two units, an outcome is missing, or nothing varies.
    """
    table = contrasted(as_received(units, received), outcome, arm=arm, against=against)
    unit = unit_of(outcome)
    y = unit.scale * finite(table, outcome)
    z = (table["arm"] == arm).to_numpy()
    block = pd.factorize(table["block"])[0]
    cells = [(block == b) & (z == t) for b in range(block.max() + 1) for t in (True, False)]
    skewness = 0.0
    if (least := min(cell.sum() for cell in cells)) > 1:
        moments = (float(m[0]) for m in _neyman(y[:, None], z, block))
        estimate, variance, df, skewness = moments
        method = "Neyman variance, Satterthwaite df" if block.max() else "Welch"
        method += ", corrected for skewness" if least > 2 else ""
    else:
        estimate, variance, df = _additive_hc2(y, z, block)
        pairs = max(cell.sum() for cell in cells) == 1
        method = "matched pairs, t" if pairs else "OLS with block indicators, HC2, t(n - k)"
    if variance == 0:
        raise NotEstimable(f"{outcome} does not vary within arms, so its error is unknown")
    found = Difference(
        arm=arm,
        against=against,
        outcome=outcome,
        n_arm=int(z.sum()),
        n_against=int((~z).sum()),
        blocks=int(block.max()) + 1,
        estimate=estimate,
        se=float(np.sqrt(variance)),
        df=df,
        skewness=skewness,
        low=float("nan"),
        high=float("nan"),
        p=float("nan"),
        level=level,
        unit=unit.name,
        method=method,
        as_treated=received is not None,
    )
    low, high = found.bounds(level)
    above = found.above(0.0)
    return replace(found, low=low, high=high, p=2 * min(above, 1 - above))


def difference_p(units: pd.DataFrame, y: np.ndarray, *, arm: str) -> np.ndarray:
    """Return p of :func:`difference_in_means` for outcomes ``y`` (units, m), all at once.

    ``units`` holds two arms with two units or more in every block, and nothing is missing. Where
    nothing varies within arms p is 1.
    """
    z = (units["arm"] == arm).to_numpy()
    estimate, variance, df, skewness = _neyman(y, z, pd.factorize(units["block"])[0])
    se = np.sqrt(np.where(variance > 0, variance, np.inf))
    t = corrected(estimate / se, skewness)
    return np.where(variance > 0, 2 * stats.t.sf(np.abs(t), df), 1.0)


def block_weights(z: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Return the weight of each block, proportional to n1 n0 / (n1 + n0) and summing to 1.

    These are the weights of OLS with block indicators. Blocks that lost no unit weigh the same, and
    then the estimate is the plain average of the blocks' differences.
    """
    treated = np.bincount(block, weights=z)
    size = np.bincount(block)
    precision = treated * (size - treated) / size
    return precision / precision.sum()


def contrasted(units: pd.DataFrame, outcome: str, *, arm: str, against: str) -> pd.DataFrame:
    """Keep the units of the two arms in blocks that hold both; refuse what cannot be compared."""
    check_units(units, outcome)
    for name in (arm, against):
        n = int(np.count_nonzero(units["arm"] == name))
        if n < 2:
            raise NotEstimable(f"{name} has {n} finished units, a comparison needs 2 or more")
    table = units.loc[units["arm"].isin([arm, against])]
    both = table.groupby("block")["arm"].transform("nunique") == 2
    table = table.loc[both]
    if table.empty:
        raise NotEstimable(f"no block holds finished units of both {arm} and {against}")
    finite(table, outcome)
    return table


def design_of(table: pd.DataFrame, arm: str) -> np.ndarray:
    """Return the arm's indicator and one indicator a block, (n, 1 + blocks)."""
    z = (table["arm"] == arm).to_numpy(dtype=float)
    block = pd.factorize(table["block"])[0]
    return np.column_stack([z, block[:, None] == np.arange(block.max() + 1)]).astype(float)


def _neyman(
    y: np.ndarray, z: np.ndarray, block: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return estimate, variance, Satterthwaite df and skewness of each column of y (units, m).

    Every cell has two units or more; below three there is no third moment, and skewness is 0.
    """
    estimate, third = np.zeros(y.shape[1]), np.zeros(y.shape[1])
    parts, dfs, least = [], [], len(y)
    for b, weight in enumerate(block_weights(z, block)):
        for sign, cell in ((1, y[(block == b) & z]), (-1, y[(block == b) & ~z])):
            n = len(cell)
            estimate += sign * weight * cell.mean(axis=0)
            parts.append(weight**2 * cell.var(axis=0, ddof=1) / n)
            dfs.append(n - 1)
            least = min(least, n)
            third += sign * weight**3 * third_moment(cell) / n**2 if n > 2 else 0.0
    terms = np.array(parts)
    variance = terms.sum(axis=0)
    safe = np.where(variance > 0, variance, 1.0)
    df = safe**2 / np.where(variance > 0, (terms.T**2 / np.array(dfs)).sum(axis=1), 1 / sum(dfs))
    skewness = np.where(variance > 0, third / safe**1.5, 0.0) if least > 2 else np.zeros_like(third)
    return estimate, variance, df, skewness


def _additive_hc2(y: np.ndarray, z: np.ndarray, block: np.ndarray) -> tuple[float, float, float]:
    """Return estimate, HC2 variance and n - k of OLS on arm and block indicators.

    HC2 after MacKinnon & White (1985), Eq. 12: residuals divided by sqrt(1 - leverage).
    """
    x = np.column_stack([z, block[:, None] == np.arange(block.max() + 1)]).astype(float)
    df = len(y) - x.shape[1]
    if df < 1:
        raise NotEstimable(f"{len(y)} units leave no degree of freedom for {x.shape[1]} parameters")
    inverse = np.linalg.inv(x.T @ x)
    coefficient = inverse @ x.T @ y
    leverage = np.einsum("ij,jk,ik->i", x, inverse, x)
    if leverage.max() > 1 - 1e-9:
        raise NotEstimable("one unit alone decides a coefficient, so its HC2 variance is undefined")
    meat = x.T * ((y - x @ coefficient) ** 2 / (1 - leverage))
    covariance = inverse @ (meat @ x) @ inverse
    return float(coefficient[0]), float(covariance[0, 0]), float(df)
