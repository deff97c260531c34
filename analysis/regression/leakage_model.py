"""Leakage model over target models, and the cost in accuracy of a point less leakage.

Both describe the defenses that were trained. They do not say what would happen if one accuracy
changed alone. Ratios have Fieller sets, which are unbounded wherever the slope may be zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.inference.ols import ols
from analysis.inference.table_checks import NotEstimable, outcome_values
from analysis.regression.fieller import ConfidenceSet, fieller
from analysis.schema.columns import unit_of


@dataclass(frozen=True, kw_only=True, slots=True)
class LeakageModel:
    """Regression of leakage on clean and robust accuracies, in points."""

    columns: tuple[str, ...]  # the accuracies, in the order of all tuples below
    n: int
    defenses: int
    coefficients: tuple[float, ...]
    se: tuple[float, ...]  # HC3
    r2: float
    adjusted_r2: float
    loo_r2: float  # leave-one-unit-out
    lodo_r2: float | None  # leave-one-defense-out; None where a fit without one is not estimable
    lodo: dict[str, tuple[float, ...]]  # by defense: coefficients of the fit without it
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
    """Points of an accuracy for one point less leakage, by three definitions that differ."""

    accuracy: str
    n: int
    partial_slope: float  # of leakage on the accuracy, with the other accuracies held fixed
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
            f"{self.accuracy}: points of accuracy for a point of leakage, partial "
            f"{self.partial:+.3g} ({self.partial_set}), simple {self.simple:+.3g} "
            f"({self.simple_set}), reverse {self.reverse:+.3g} ({self.reverse_low:+.3g} to "
            f"{self.reverse_high:+.3g}); n = {self.n}"
        )


def _points(units: pd.DataFrame, column: str) -> np.ndarray:
    """Return a column in its printed unit, (n,)."""
    return unit_of(column).scale * outcome_values(units, column)


def fit_leakage_model(
    units: pd.DataFrame, leakage: str, clean: str, robust: list[str], *, defense: str = "arm"
) -> LeakageModel:
    """Regress leakage on clean accuracy and on the robust accuracies that vary, with HC3 errors.

    Args:
        units: one row a unit: ``unit_id``, the column ``defense`` and the columns named.
        leakage, clean: columns of leakage and clean accuracy.
        robust: columns of robust accuracies; those that do not vary are left out.
        defense: column of the groups that are left out one at a time.

    Raises:
        NotEstimable: clean accuracy or leakage does not vary, a value is missing, too few units for
            the columns, columns are linearly dependent, or one unit alone decides a coefficient.
    """
    columns = [c for c in (clean, *robust) if np.ptp(_points(units, c)) > 1e-9]
    if not columns or columns[0] != clean:
        raise NotEstimable(f"{clean} does not vary, so there is no model to fit")
    y = _points(units, leakage)
    if np.ptp(y) <= 1e-9:
        raise NotEstimable(f"{leakage} does not vary over the units, so there is no model to fit")
    x = np.column_stack([np.ones(len(y)), *(_points(units, c) for c in columns)])
    fit = ols(y, x)
    se = fit.robust_se("HC3")
    total, rest = float(np.sum((y - y.mean()) ** 2)), float(fit.residuals @ fit.residuals)
    press = float(np.sum((fit.residuals / (1 - fit.leverage)) ** 2))
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
        se=tuple(map(float, se[1:])),
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
    """Fit without each defense; return the coefficients and R2 of predicting the one left out."""
    found: dict[str, tuple[float, ...]] = {}
    error = 0.0
    for name in dict.fromkeys(names):
        others = names != name
        try:
            fit = ols(y[others], x[others])
        except NotEstimable:
            return found, None
        found[str(name)] = tuple(map(float, fit.coefficients[1:]))
        error += float(np.sum((y[~others] - x[~others] @ fit.coefficients) ** 2))
    return found, 1 - error / float(np.sum((y - y.mean()) ** 2))


def cost_table(
    units: pd.DataFrame, leakage: str, clean: str, robust: list[str], *, level: float = 0.95
) -> list[Cost]:
    """Return the cost in each robust accuracy that varies, then in clean accuracy.

    Partial slopes hold all other accuracies fixed, which hardly any defense does. Simple slopes
    hold nothing fixed. The reverse slope regresses accuracy on leakage. Errors are HC3, t(n - k).

    Raises:
        NotEstimable: see :func:`fit_leakage_model`.
    """
    model = fit_leakage_model(units, leakage, clean, robust)
    y = _points(units, leakage)
    x = np.column_stack([_points(units, c) for c in model.columns])
    one = np.ones((len(y), 1))
    costs: list[Cost] = []
    for j, column in enumerate(model.columns):
        simple = ols(y, np.column_stack([x[:, j], one]))
        reverse = ols(x[:, j], np.column_stack([y, one]))
        simple_se, reverse_se = (float(fit.robust_se("HC3")[0]) for fit in (simple, reverse))
        half = float(stats.t.ppf((1 + level) / 2, reverse.df)) * reverse_se
        partial_b, simple_b = model.coefficients[j], float(simple.coefficients[0])
        costs.append(
            Cost(
                accuracy=column,
                n=len(y),
                partial_slope=partial_b,
                partial=_inverse(partial_b),
                partial_set=_inverse_set(partial_b, model.se[j], model.df, level),
                simple_slope=simple_b,
                simple=_inverse(simple_b),
                simple_set=_inverse_set(simple_b, simple_se, simple.df, level),
                reverse=float(reverse.coefficients[0]),
                reverse_low=float(reverse.coefficients[0]) - half,
                reverse_high=float(reverse.coefficients[0]) + half,
            )
        )
    return [*costs[1:], costs[0]]


def _inverse(slope: float) -> float:
    """Return 1 / slope; infinity for a slope of 0."""
    return 1 / slope if slope else float("inf")


def _inverse_set(slope: float, se: float, df: int, level: float) -> ConfidenceSet:
    """Return the Fieller set of 1 / slope, which never contains 0."""
    critical = float(stats.t.ppf((1 + level) / 2, df))
    return fieller(
        1.0, slope, variances=(0.0, se**2), covariance=0.0, critical=critical, level=level
    )
