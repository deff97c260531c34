"""Failed units by arm, and bounds on the effect over all units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.inference.table_checks import NotEstimable, check_columns, check_range
from analysis.schema.columns import unit_of

_RANGE = {"pp": (0.0, 1.0), "L2": (0.0, 2.0)}  # of an outcome in the table, by its printed unit


@dataclass(frozen=True, kw_only=True, slots=True)
class Attrition:
    """Units without an outcome in two arms, and bounds on the effect that include them.

    Worst-case bounds are on the difference of arm means over all units that have ended. Lee's are
    on that over the units that would have finished in either arm. Both are in the printed unit and
    do not include sampling error.
    """

    arm: str
    against: str
    missing_arm: int
    missing_against: int
    n_arm: int  # units that have ended
    n_against: int
    fisher_p: float  # of the null that both arms lose units at the same rate
    worst_low: float
    worst_high: float
    lee_low: float
    lee_high: float
    lee_trims: str  # the arm that is trimmed, which lost fewer; empty where rates are equal
    unit: str

    def __str__(self) -> str:
        lost = (
            f"{self.missing_arm} of {self.n_arm} units of {self.arm} and {self.missing_against} of "
            f"{self.n_against} of {self.against} have no outcome (Fisher p = {self.fisher_p:.3g})"
        )
        return (
            f"{lost}; worst case {self.worst_low:+.3g} to {self.worst_high:+.3g} {self.unit}, Lee "
            f"bounds {self.lee_low:+.3g} to {self.lee_high:+.3g}"
        )


def attrition_bounds(units: pd.DataFrame, outcome: str, *, arm: str, against: str) -> Attrition:
    """Bound the effect where outcomes are missing; ``units`` holds all units that have ended.

    Worst case after Manski (1990): missing outcomes are at either end of their range. Lee (2009),
    Proposition 1a: assuming that the arm changes failing in one direction only, the arm that lost
    fewer units is trimmed by the excess share, from the top or from the bottom.

    Raises:
        ValueError: a column is missing, or a fraction is outside [0, 1].
        NotEstimable: an arm has no outcome at all, or the outcome has no largest value.
    """
    check_columns(units, ["unit_id", "arm", outcome])
    check_range(units, outcome)
    unit = unit_of(outcome)
    if unit.name not in _RANGE:
        raise NotEstimable(f"{outcome} has no largest value, so a missing one has no bound")
    bounds = _RANGE[unit.name]
    values = {
        a: units.loc[units["arm"] == a, outcome].to_numpy(dtype=float) for a in (arm, against)
    }
    observed = {a: v[np.isfinite(v)] for a, v in values.items()}
    for a, v in observed.items():
        if not len(v):
            raise NotEstimable(f"no unit of {a} has an outcome")
    missing = {a: len(values[a]) - len(observed[a]) for a in values}
    table = [[missing[a], len(observed[a])] for a in (arm, against)]
    worst = [
        _difference_with(observed, missing, {arm: bounds[i], against: bounds[1 - i]})
        for i in (0, 1)
    ]
    lee, trims = _lee(observed, values, arm, against)
    return Attrition(
        arm=arm,
        against=against,
        missing_arm=missing[arm],
        missing_against=missing[against],
        n_arm=len(values[arm]),
        n_against=len(values[against]),
        fisher_p=float(np.asarray(stats.fisher_exact(table))[1]),
        worst_low=unit.scale * worst[0],
        worst_high=unit.scale * worst[1],
        lee_low=unit.scale * lee[0],
        lee_high=unit.scale * lee[1],
        lee_trims=trims,
        unit=unit.name,
    )


def _difference_with(
    observed: dict[str, np.ndarray], missing: dict[str, int], value: dict[str, float]
) -> float:
    """Return the first arm's mean minus the second's with ``value`` for the missing outcomes."""
    means = [
        (observed[a].sum() + missing[a] * v) / (len(observed[a]) + missing[a])
        for a, v in value.items()
    ]
    return float(means[0] - means[1])


def _lee(
    observed: dict[str, np.ndarray], values: dict[str, np.ndarray], arm: str, against: str
) -> tuple[tuple[float, float], str]:
    """Return Lee's bounds and the arm that is trimmed; units at the cut count in part."""
    share = {a: len(observed[a]) / len(values[a]) for a in observed}
    if share[arm] == share[against]:
        difference = float(observed[arm].mean() - observed[against].mean())
        return (difference, difference), ""
    trimmed = arm if share[arm] > share[against] else against
    left = min(share.values()) / share[trimmed]
    low, high = (_trimmed_mean(np.sort(observed[trimmed])[::step], left) for step in (1, -1))
    if trimmed == arm:
        other = float(observed[against].mean())
        return (low - other, high - other), trimmed
    other = float(observed[arm].mean())
    return (other - high, other - low), trimmed


def _trimmed_mean(ordered: np.ndarray, share: float) -> float:
    """Average the first ``share`` of the values; the value at the cut has a partial weight."""
    weight = np.clip(share * len(ordered) - np.arange(len(ordered)), 0, 1)
    return float(weight @ ordered / weight.sum())
