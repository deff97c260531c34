"""Comparison of leakage at equal clean accuracy, which no contrast of arms holds fixed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.inference.difference import two_arm_table
from analysis.inference.ols import block_indicators, ols
from analysis.inference.table_checks import NotEstimable, outcome_values
from analysis.schema.columns import unit_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Matched:
    """Leakage of one arm minus the prediction from other arms' line at its clean accuracy."""

    arm: str
    line: tuple[str, ...]  # the arms whose units the line is fitted to
    at: float  # mean accuracy of the arm, percent
    estimate: float
    se: float
    low: float
    high: float
    p: float
    level: float
    extrapolated: bool  # whether ``at`` lies outside the accuracies of the line's units

    def __str__(self) -> str:
        where = ", which extrapolates the line" if self.extrapolated else ""
        return (
            f"{self.arm} at its accuracy of {self.at:.1f} %{where}: {self.estimate:+.3g} pp "
            f"against the line of {', '.join(self.line)} ({self.level:.0%} {self.low:+.3g} to "
            f"{self.high:+.3g}, p = {self.p:.3g})"
        )


def compare_at_matched_accuracy(
    units: pd.DataFrame,
    leakage: str,
    accuracy: str,
    *,
    arm: str,
    line: list[str],
    level: float = 0.95,
) -> Matched:
    """Compare ``arm`` with the line of leakage on accuracy through the units of other arms.

    The line (doses of a placebo, or controls stopped early) is fitted with block indicators. The
    arm has its own slope, so its units do not change the line; it has none where its accuracy does
    not vary or one unit alone decides it. Errors are HC2, t(n - k). The comparison conditions on
    accuracies, which are outcomes too, so it is not randomised.

    Args:
        units: one row a unit: ``unit_id``, ``block``, ``arm`` and the two columns.
        leakage, accuracy: columns of leakage and accuracy.
        arm: the arm that is compared.
        line: the arms that the line is fitted to.
        level: of the interval.

    Raises:
        NotEstimable: a value is missing, an arm has fewer than two units, no block holds both sides
            of the comparison, the accuracy does not vary over the line, too few units, or one unit
            alone decides the line.
    """
    table = units.loc[units["arm"].isin([arm, *line])]
    merged = table.assign(arm=np.where(table["arm"] == arm, arm, line[0]))
    two_arm_table(merged, leakage, arm=arm, against=line[0])
    y = unit_of(leakage).scale * outcome_values(table, leakage)
    x = unit_of(accuracy).scale * outcome_values(table, accuracy)
    z = (table["arm"] == arm).to_numpy(dtype=float)
    at = float(x[z == 1].mean())
    if np.ptp(x[z == 0]) <= 1e-9:
        raise NotEstimable(f"{accuracy} does not vary over {', '.join(line)}, so there is no line")
    columns = [z, (1 - z) * (x - at), block_indicators(pd.factorize(table["block"])[0])]
    own_slope = [z * (x - at)] if np.ptp(x[z == 1]) > 1e-9 else []
    fit = ols(y, np.column_stack([*columns, *own_slope]))
    try:
        robust_se = fit.robust_se("HC2")
    except NotEstimable:  # one unit alone decides a slope
        fit = ols(y, np.column_stack(columns))
        robust_se = fit.robust_se("HC2")
    estimate, se = float(fit.coefficients[0]), float(robust_se[0])
    half = float(stats.t.ppf((1 + level) / 2, fit.df)) * se
    return Matched(
        arm=arm,
        line=tuple(line),
        at=at,
        estimate=estimate,
        se=se,
        low=estimate - half,
        high=estimate + half,
        p=float(2 * stats.t.sf(abs(estimate) / se, fit.df)),
        level=level,
        extrapolated=not x[z == 0].min() <= at <= x[z == 0].max(),
    )
