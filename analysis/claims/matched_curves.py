"""Leakage of two curves of doses at the same loss of clean accuracy.

A defense in several doses traces a curve of leakage over clean accuracy, from the control on. Two
defenses are compared where both have lost the same clean accuracy. Both coordinates of every dose
are means with errors, and so is the accuracy of the control from which the loss is counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.claims.cell_moments import CellMoments, cell_moments
from analysis.inference.table_checks import NotEstimable, counted


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveDifference:
    """Leakage on one curve minus that on another, in points, at equal loss of clean accuracy."""

    curve: tuple[str, ...]  # arms
    against: tuple[str, ...]
    loss: float  # points of clean accuracy below the control
    accuracy: float  # percent, at which the curves are compared
    heights: tuple[float, float]  # leakage of both curves there, percent
    estimate: float
    se: float
    df: float
    low: float
    high: float
    level: float

    def __str__(self) -> str:
        return (
            f"{', '.join(self.curve)} against {', '.join(self.against)} at {self.loss:g} points "
            f"less clean accuracy: {self.estimate:+.3g} pp ({self.level:.0%} interval "
            f"{self.low:+.3g} to {self.high:+.3g})"
        )


def compare_curves(
    units: pd.DataFrame,
    leakage: str,
    accuracy: str,
    *,
    curve: list[str],
    against: list[str],
    control: str,
    loss: float,
    level: float = 0.95,
) -> CurveDifference:
    r"""Compare two defenses at equal loss of clean accuracy.

    A curve joins the means (accuracy, leakage) of its arms and of the control by straight lines, in
    the order of accuracy. Between the means p and q it has at accuracy x the height

    .. math:: y_p + \frac{x - x_p}{x_q - x_p} (y_q - y_p), \quad x = x_{control} - loss

    The error follows from the joint covariance of all means by the delta method, with a t interval
    of Satterthwaite's degrees of freedom. Every part is a mean of randomised arms. No unit is
    selected by its accuracy, so the comparison conditions on no outcome of a unit.

    Args:
        units: one row a unit: ``unit_id``, ``block``, ``arm`` and the two columns.
        leakage, accuracy: columns of leakage and accuracy.
        curve, against: arms of the two curves, without the control.
        control: arm at which both curves begin.
        loss: of accuracy below the control, as a fraction.
        level: of the interval.

    Raises:
        NotEstimable: a curve does not reach the loss, a value is missing, no block holds all arms,
            a cell has a single unit, or nothing varies.
    """
    arms = list(dict.fromkeys([control, *curve, *against]))
    moments = cell_moments(units, [accuracy, leakage], arms)
    lost = 100 * loss
    x = moments.mean(control, accuracy) - lost
    (first, slope, gradient), (second, other_slope, other) = (
        _height(moments, [control, *side], x, lost) for side in (curve, against)
    )
    for arm, part in other.items():
        gradient[arm] = gradient.get(arm, np.zeros(2)) - part
    gradient[control] = gradient.get(control, np.zeros(2)) + [slope - other_slope, 0.0]
    se, df = moments.error(gradient)
    estimate = first - second
    half = float(stats.t.ppf((1 + level) / 2, df)) * se
    return CurveDifference(
        curve=tuple(curve),
        against=tuple(against),
        loss=lost,
        accuracy=x,
        heights=(first, second),
        estimate=estimate,
        se=se,
        df=df,
        low=estimate - half,
        high=estimate + half,
        level=level,
    )


def _height(
    moments: CellMoments, arms: list[str], x: float, lost: float
) -> tuple[float, float, dict[str, np.ndarray]]:
    """Return the height of a curve at accuracy x, its slope, and its gradient by the means.

    Raises:
        NotEstimable: x lies below all accuracies of the curve.
    """
    points = sorted((float(moments.means[a][0]), float(moments.means[a][1]), a) for a in arms)
    if x < points[0][0]:
        reached = counted(1, "point") if lost == 1 else f"{lost:g} points"
        raise NotEstimable(
            f"a loss of {reached} of clean accuracy is not reached by {', '.join(arms[1:])}: the "
            f"largest mean loss is {moments.means[arms[0]][0] - points[0][0]:.1f}"
        )
    right = sum(point[0] <= x for point in points)  # the control lies to the right of x
    (xp, yp, p), (xq, yq, q) = points[right - 1], points[right]
    share, slope = (x - xp) / (xq - xp), (yq - yp) / (xq - xp)
    gradient = {
        p: (1 - share) * np.array([-slope, 1.0]),
        q: share * np.array([-slope, 1.0]),
    }
    return yp + share * (yq - yp), slope, gradient
