"""Correlation of leakage with robust and clean accuracy over the units: description, not causation.

Arms are clusters: with two arms far apart, the correlation over all units is nearly that of two
points. It is therefore always printed beside the correlation within arms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.inference.ols import ols
from analysis.inference.table_checks import NotEstimable


@dataclass(frozen=True, kw_only=True, slots=True)
class Association:
    """Pearson correlation and simple slope of leakage on one accuracy.

    A correlation is None with fewer than three units or a constant column, the slope with fewer
    than three units or a constant accuracy, an error also where one unit alone decides the slope.
    """

    accuracy: str
    n: int
    pooled: float | None  # over all units
    within: float | None  # after subtracting arm means
    by_arm: dict[str, float | None]
    slope: float | None  # points of leakage for one point of accuracy
    se_hc2: float | None
    se_hc3: float | None

    def __str__(self) -> str:
        def show(r: float | None) -> str:
            return "undefined" if r is None else f"{r:+.2f}"

        return (
            f"leakage v {self.accuracy}: r {show(self.pooled)} over all {self.n} units, "
            f"{show(self.within)} within arms"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Explained:
    """Share of the variance of leakage that linear fits explain (R squared, unadjusted)."""

    n: int
    robust: float
    clean: float
    both: float

    def __str__(self) -> str:
        return (
            f"R2 of leakage over {self.n} units: robust {self.robust:.2f}, "
            f"clean {self.clean:.2f}, both {self.both:.2f}"
        )


def associate(units: pd.DataFrame, leakage: str, accuracy: str) -> Association:
    """Correlate leakage with an accuracy over all units, within arms, and in each arm."""
    y, x = units[leakage].to_numpy(dtype=float), units[accuracy].to_numpy(dtype=float)
    arms = units.groupby("arm", sort=False)
    centred_y = y - arms[leakage].transform("mean").to_numpy(dtype=float)
    centred_x = x - arms[accuracy].transform("mean").to_numpy(dtype=float)
    slope, se_hc2, se_hc3 = _slope(x, y)
    return Association(
        accuracy=accuracy,
        n=len(units),
        pooled=_pearson(x, y),
        within=_pearson(centred_x, centred_y),
        by_arm={
            str(arm): _pearson(
                rows[accuracy].to_numpy(dtype=float), rows[leakage].to_numpy(dtype=float)
            )
            for arm, rows in arms
        },
        slope=slope,
        se_hc2=se_hc2,
        se_hc3=se_hc3,
    )


def explained_variance(units: pd.DataFrame, leakage: str, robust: str, clean: str) -> Explained:
    """Return R squared of leakage on robust accuracy alone, clean accuracy alone, and both."""
    y = units[leakage].to_numpy(dtype=float)
    return Explained(
        n=len(units),
        robust=_r_squared(y, units[[robust]].to_numpy(dtype=float)),
        clean=_r_squared(y, units[[clean]].to_numpy(dtype=float)),
        both=_r_squared(y, units[[robust, clean]].to_numpy(dtype=float)),
    )


def _constant(values: np.ndarray) -> bool:
    """Return whether all values are equal up to rounding."""
    return float(np.ptp(values)) <= 1e-9


def _pearson(x: np.ndarray, y: np.ndarray) -> float | None:
    """Return Pearson's correlation; None with fewer than three values or where one is constant."""
    if len(x) < 3 or _constant(x) or _constant(y):
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _slope(x: np.ndarray, y: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """Return the least-squares slope of y on x with its HC2 and HC3 errors."""
    if len(x) < 3 or _constant(x):
        return None, None, None
    fit = ols(y, np.column_stack([x - x.mean(), np.ones(len(x))]))
    slope = float(fit.coefficients[0])
    try:
        return slope, float(fit.robust_se("HC2")[0]), float(fit.robust_se("HC3")[0])
    except NotEstimable:
        return slope, None, None


def _r_squared(y: np.ndarray, x: np.ndarray) -> float:
    """Return the unadjusted R squared of y on x and an intercept."""
    design = np.column_stack([np.ones(len(y)), x])
    residual = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return 1 - float(residual @ residual) / float(np.sum((y - y.mean()) ** 2))
