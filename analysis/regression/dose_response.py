"""Trend of the outcome over the dose of a defense: a monotone test and a straight line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.inference.ols import block_indicators, ols
from analysis.inference.reallocation import draws_for, permute_within_blocks
from analysis.inference.table_checks import NotEstimable, check_units, outcome_values
from analysis.schema.columns import unit_of

DRAWS = 9_999  # permutations; fewer above 1,000 units


@dataclass(frozen=True, kw_only=True, slots=True)
class DoseResponse:
    """Trend of an outcome over arms in the order of their dose."""

    outcome: str
    doses: dict[str, float]  # by arm, increasing
    n: int
    slope: float  # printed unit of the outcome for one unit of dose
    se: float  # HC2
    low: float
    high: float
    level: float
    linear_p: float  # two-sided, of |slope| over permutations within blocks
    jonckheere: float  # rising minus falling pairs, within blocks
    jonckheere_p: float  # two-sided, over permutations within blocks
    unit: str

    def __str__(self) -> str:
        return (
            f"{self.outcome}: {self.slope:+.3g} {self.unit} a unit of dose ({self.level:.0%} "
            f"{self.low:+.3g} to {self.high:+.3g}), p = {self.linear_p:.3g}; Jonckheere "
            f"{self.jonckheere:+.0f}, p = {self.jonckheere_p:.3g}; n = {self.n}"
        )


def fit_dose_response(
    units: pd.DataFrame,
    outcome: str,
    doses: dict[str, float],
    *,
    seed: int,
    level: float = 0.95,
) -> DoseResponse:
    """Test for a trend over the arms of ``doses`` and fit a line with block indicators.

    Jonckheere (1954), Terpstra (1952): pairs of units of different dose in one block, counted by
    sign. Both p-values permute doses within blocks, (1 + b) / (1 + B) with B = 9,999, fewer above
    1,000 units. The slope has the HC2 error of OLS with t(n - k).

    Args:
        units: one row a unit: ``unit_id``, ``block``, ``arm`` and the outcome.
        outcome: column whose trend is tested.
        doses: dose of each arm; other arms are left out.
        seed: of the permutations.
        level: of the interval of the slope.

    Raises:
        ValueError: the table is not one row a unit, or a fraction is outside [0, 1].
        NotEstimable: there are fewer than three doses, an arm has no unit, an outcome is missing,
            doses do not vary within blocks, no degree of freedom is left, or one unit alone decides
            a coefficient.
    """
    check_units(units, outcome)
    if len(set(doses.values())) < 3:
        raise NotEstimable(f"a trend needs three doses or more, got {sorted(set(doses.values()))}")
    table = units.loc[units["arm"].isin(list(doses))]
    empty = sorted(set(doses) - set(table["arm"]))
    if empty:
        raise NotEstimable(f"no finished unit of {', '.join(empty)}")
    unit = unit_of(outcome)
    y = unit.scale * outcome_values(table, outcome)
    dose = table["arm"].map(doses).to_numpy(dtype=float)
    block = pd.factorize(table["block"])[0]
    if np.abs(_centre(dose, block)).max() <= 1e-9 * np.abs(dose).max():
        raise NotEstimable("no block holds units of two different doses")
    fit = ols(y, np.column_stack([dose, block_indicators(block)]))
    slope, se = float(fit.coefficients[0]), float(fit.robust_se("HC2")[0])
    drawn = permute_within_blocks(dose, block, draws=draws_for(len(dose), DRAWS), seed=seed)
    linear = np.abs(drawn @ _centre(y, block))
    trend = np.abs(_jonckheere(y, drawn, block))
    half = float(stats.t.ppf((1 + level) / 2, fit.df)) * se
    return DoseResponse(
        outcome=outcome,
        doses=dict(sorted(doses.items(), key=lambda item: item[1])),
        n=len(y),
        slope=slope,
        se=se,
        low=slope - half,
        high=slope + half,
        level=level,
        linear_p=float(np.mean(linear >= linear[0] * (1 - 1e-9))),
        jonckheere=float(_jonckheere(y, drawn[:1], block)[0]),
        jonckheere_p=float(np.mean(trend >= trend[0] - 1e-9)),
        unit=unit.name,
    )


def _centre(values: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Subtract the mean of each block."""
    means = np.bincount(block, weights=values) / np.bincount(block)
    return values - means[block]


def _jonckheere(y: np.ndarray, doses: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Count concordant minus discordant pairs within blocks for each row of ``doses`` (a, n).

    Units are sorted by outcome, so a cumulative count of each dose is the number of lower outcomes
    with that dose. Pairs of equal outcomes are not counted.
    """
    levels = np.unique(doses[0])
    total = np.zeros(len(doses))
    for b in range(block.max() + 1):
        rows = np.flatnonzero(block == b)
        rows = rows[np.argsort(y[rows], kind="stable")]
        first = np.searchsorted(y[rows], y[rows], side="left")  # number of lower outcomes
        drawn = doses[:, rows]
        for level in levels:
            below = np.zeros((len(doses), len(rows) + 1), dtype=np.int32)
            np.cumsum(drawn == level, axis=1, out=below[:, 1:])
            count = below[:, first]
            total += np.sum(count * np.sign(drawn - level), axis=1)
    return total
