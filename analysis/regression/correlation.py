"""Relate leakage to robust and clean accuracy over the units. Description, not causation.

Arms are clusters: with two arms far apart the correlation over all units is nearly that of two
points, so it is always printed beside the correlation within arms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True, kw_only=True, slots=True)
class Association:
    """Pearson correlation and simple slope of leakage on one accuracy; None where constant."""

    accuracy: str
    n: int
    pooled: float | None  # over all units
    within: float | None  # after subtracting arm means
    by_arm: dict[str, float | None]
    slope: float | None  # points of leakage a point of accuracy
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


def explain(units: pd.DataFrame, leakage: str, robust: str, clean: str) -> Explained:
    """Return R squared of leakage on robust accuracy alone, clean accuracy alone, and both."""
    y = units[leakage].to_numpy(dtype=float)
    return Explained(
        n=len(units),
        robust=_r_squared(y, units[[robust]].to_numpy(dtype=float)),
        clean=_r_squared(y, units[[clean]].to_numpy(dtype=float)),
        both=_r_squared(y, units[[robust, clean]].to_numpy(dtype=float)),
    )


def _constant(values: np.ndarray) -> bool:
    return float(np.ptp(values)) <= 1e-12


def _pearson(x: np.ndarray, y: np.ndarray) -> float | None:
    if len(x) < 3 or _constant(x) or _constant(y):
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _slope(x: np.ndarray, y: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """Return the least-squares slope with HC2 and HC3 errors (MacKinnon & White 1985)."""
    if len(x) < 3 or _constant(x):
        return None, None, None
    deviation = x - x.mean()
    spread = float(deviation @ deviation)
    slope = float(deviation @ y) / spread
    residual = y - y.mean() - slope * deviation
    leverage = 1 / len(x) + deviation**2 / spread
    if leverage.max() > 1 - 1e-9:
        return slope, None, None
    weighted = (deviation / spread) ** 2 * residual**2
    hc2, hc3 = (float(np.sqrt(np.sum(weighted / (1 - leverage) ** power))) for power in (1, 2))
    return slope, hc2, hc3


def _r_squared(y: np.ndarray, x: np.ndarray) -> float:
    design = np.column_stack([np.ones(len(y)), x])
    residual = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return 1 - float(residual @ residual) / float(np.sum((y - y.mean()) ** 2))
