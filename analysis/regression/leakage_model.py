"""The leakage model over target models, and what a point of leakage costs in accuracy.

Description of the defenses that were trained, not of what would happen if one accuracy changed
alone. Ratios come with Fieller sets, which are unbounded wherever the slope may be zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.inference.ols import ols
from analysis.inference.table_checks import NotEstimable, finite
from analysis.regression.fieller import ConfidenceSet, fieller
from analysis.schema.columns import unit_of


@dataclass(frozen=True, kw_only=True, slots=True)
class LeakageModel:
    """Leakage on clean and robust accuracies, in points; arrays follow ``columns``."""

    columns: tuple[str, ...]
    n: int
    defenses: int
    coefficients: tuple[float, ...]
    se: tuple[float, ...]  # HC3
    r2: float
    adjusted_r2: float
    loo_r2: float  # leaving one unit out
    lodo_r2: float | None  # leaving one defense out; None where that leaves too few
    lodo: dict[str, tuple[float, ...]]  # coefficients without each defense
    vif: tuple[float, ...]
    condition: float  # of the standardised columns
    max_leverage: float
    partial_f: float  # of the first column (clean accuracy) given the others
    partial_p: float
    df: int

    def __str__(self) -> str:
        terms = ", ".join(
            f"{c} {b:+.3g} (HC3 {s:.3g}, VIF {v:.3g})"
            for c, b, s, v in zip(self.columns, self.coefficients, self.se, self.vif, strict=True)
        )
        lodo = "not estimable" if self.lodo_r2 is None else f"{self.lodo_r2:.2f}"
        return (
            f"n = {self.n} of {self.defenses} defenses: {terms}; R2 {self.r2:.2f}, adjusted "
            f"{self.adjusted_r2:.2f}, leave-one-out {self.loo_r2:.2f}, leave-one-defense-out "
            f"{lodo}; partial F of {self.columns[0]} {self.partial_f:.3g}, p {self.partial_p:.3g}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Points of an accuracy for one point less leakage, read in three ways that differ."""

    accuracy: str
    n: int
    partial_slope: float  # of leakage on the accuracy, others held
    partial: float  # 1 / partial_slope
    partial_set: ConfidenceSet
    simple_slope: float
    simple: float  # 1 / simple_slope
    simple_set: ConfidenceSet
    reverse: float  # slope of the accuracy on leakage
    reverse_low: float
    reverse_high: float

    def __str__(self) -> str:
        return (
            f"{self.accuracy}: points of accuracy a point of leakage, partial {self.partial:+.3g} "
            f"({self.partial_set}), simple {self.simple:+.3g} ({self.simple_set}), reverse "
            f"{self.reverse:+.3g} ({self.reverse_low:+.3g} to {self.reverse_high:+.3g}); "
            f"n = {self.n}"
        )


def _points(units: pd.DataFrame, column: str) -> np.ndarray:
    return unit_of(column).scale * finite(units, column)


def leakage_model(
    units: pd.DataFrame, leakage: str, clean: str, robust: list[str], *, defense: str = "arm"
) -> LeakageModel:
    """Fit leakage on clean accuracy and the robust accuracies that vary.

    Raises:
        NotEstimable: too few units for the columns, or columns that depend on each other.
    """
    columns = [c for c in (clean, *robust) if np.ptp(_points(units, c)) > 1e-9]
    if not columns or columns[0] != clean:
        raise NotEstimable(f"{clean} does not vary, so there is no model to fit")
    y = _points(units, leakage)
    if np.ptp(y) <= 1e-9:
        raise NotEstimable(
            f"{leakage} does not vary over the units, so there is nothing to explain"
        )
    x = np.column_stack([np.ones(len(y)), *(_points(units, c) for c in columns)])
    fit = ols(y, x, robust="HC3")
    total, rest = float(np.sum((y - y.mean()) ** 2)), float(fit.residuals @ fit.residuals)
    press = float(np.sum((fit.residuals / np.maximum(1 - fit.leverage, 1e-12)) ** 2))
    without = ols(y, np.delete(x, 1, axis=1))
    partial_f = (float(without.residuals @ without.residuals) - rest) / (rest / fit.df)
    names = units[defense].to_numpy()
    lodo, lodo_r2 = _leave_defense_out(y, x, names)
    standard = (x[:, 1:] - x[:, 1:].mean(axis=0)) / x[:, 1:].std(axis=0)
    return LeakageModel(
        columns=tuple(columns),
        n=len(y),
        defenses=len(set(names)),
        coefficients=tuple(map(float, fit.coefficients[1:])),
        se=tuple(map(float, fit.se[1:])),
        r2=1 - rest / total,
        adjusted_r2=1 - (rest / fit.df) / (total / (len(y) - 1)),
        loo_r2=1 - press / total,
        lodo_r2=lodo_r2,
        lodo=lodo,
        vif=tuple(map(float, np.diag(np.linalg.inv(np.atleast_2d(np.corrcoef(standard.T)))))),
        condition=float(np.linalg.cond(standard)),
        max_leverage=float(fit.leverage.max()),
        partial_f=partial_f,
        partial_p=float(stats.f.sf(partial_f, 1, fit.df)),
        df=fit.df,
    )


def _leave_defense_out(
    y: np.ndarray, x: np.ndarray, names: np.ndarray
) -> tuple[dict[str, tuple[float, ...]], float | None]:
    """Refit without each defense; return the coefficients and R2 of predicting those left out."""
    found: dict[str, tuple[float, ...]] = {}
    error = 0.0
    for name in dict.fromkeys(names):
        kept = names != name
        try:
            fit = ols(y[kept], x[kept])
        except NotEstimable:
            return found, None
        found[str(name)] = tuple(map(float, fit.coefficients[1:]))
        error += float(np.sum((y[~kept] - x[~kept] @ fit.coefficients) ** 2))
    return found, 1 - error / float(np.sum((y - y.mean()) ** 2))


def cost_table(
    units: pd.DataFrame, leakage: str, clean: str, robust: list[str], *, level: float = 0.95
) -> list[Cost]:
    """Return the cost at each robust accuracy that varies, with clean accuracy last.

    Partial slopes hold all the other accuracies, which hardly any defense does; simple slopes
    hold nothing; the reverse slope regresses accuracy on leakage. Errors are HC3, t(n - k).
    """
    model = leakage_model(units, leakage, clean, robust)
    y = _points(units, leakage)
    x = np.column_stack([_points(units, c) for c in model.columns])
    one = np.ones((len(y), 1))
    costs: list[Cost] = []
    for j, column in enumerate(model.columns):
        simple = ols(y, np.column_stack([x[:, j], one]), robust="HC3")
        back = ols(x[:, j], np.column_stack([y, one]), robust="HC3")
        half = float(stats.t.ppf((1 + level) / 2, back.df)) * float(back.se[0])
        partial_b, simple_b = model.coefficients[j], float(simple.coefficients[0])
        costs.append(
            Cost(
                accuracy=column,
                n=len(y),
                partial_slope=partial_b,
                partial=_one_over(partial_b),
                partial_set=_inverse(partial_b, model.se[j], model.df, level),
                simple_slope=simple_b,
                simple=_one_over(simple_b),
                simple_set=_inverse(simple_b, float(simple.se[0]), simple.df, level),
                reverse=float(back.coefficients[0]),
                reverse_low=float(back.coefficients[0]) - half,
                reverse_high=float(back.coefficients[0]) + half,
            )
        )
    return [*costs[1:], costs[0]]


def _one_over(slope: float) -> float:
    """Return the cost of a slope; without bound where leakage does not change."""
    return 1 / slope if slope else float("inf")


def _inverse(slope: float, se: float, df: int, level: float) -> ConfidenceSet:
    """Return the Fieller set of 1 / slope; zero is never in it and is cut out of the line."""
    critical = float(stats.t.ppf((1 + level) / 2, df))
    return fieller(
        1.0, slope, variances=(0.0, se**2), covariance=0.0, critical=critical, level=level
    )
