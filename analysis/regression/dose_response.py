"""Relate the outcome to the dose of a defense: a monotone test and a straight line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.inference.table_checks import NotEstimable, check_units, finite
from analysis.schema.columns import unit_of

DRAWS = 9_999


@dataclass(frozen=True, kw_only=True, slots=True)
class DoseResponse:
    """Trend of an outcome over arms in order of dose."""

    outcome: str
    doses: dict[str, float]  # by arm, increasing
    n: int
    slope: float  # printed unit of the outcome for one unit of dose
    se: float  # HC2
    low: float
    high: float
    level: float
    linear_p: float  # permuting arms within blocks, two-sided, by |slope|
    jonckheere: float  # pairs that rise less pairs that fall, within blocks
    jonckheere_p: float  # permuting arms within blocks, two-sided
    unit: str

    def __str__(self) -> str:
        return (
            f"{self.outcome}: {self.slope:+.3g} {self.unit} a unit of dose ({self.level:.0%} "
            f"{self.low:+.3g} to {self.high:+.3g}), p = {self.linear_p:.3g}; Jonckheere "
            f"{self.jonckheere:+.0f}, p = {self.jonckheere_p:.3g}; n = {self.n}"
        )


def dose_response(
    units: pd.DataFrame,
    outcome: str,
    doses: dict[str, float],
    *,
    seed: int,
    level: float = 0.95,
) -> DoseResponse:
    """Test for a trend over the arms of ``doses`` and fit a line with block indicators.

    Jonckheere (1954), Terpstra (1952): pairs of units of different dose in one block, counted by
    sign. Both p-values permute arms within blocks, (1 + b) / (1 + B) with B = 9,999, fewer above
    1,000 units. The slope has the HC2 error of OLS with t(n - k).

    Raises:
        NotEstimable: fewer than three doses, or an outcome is missing.
    """
    check_units(units, outcome)
    if len(set(doses.values())) < 3:
        raise NotEstimable(f"a trend needs three doses or more, got {sorted(set(doses.values()))}")
    table = units.loc[units["arm"].isin(list(doses))]
    empty = sorted(set(doses) - set(table["arm"]))
    if empty:
        raise NotEstimable(f"no finished unit of {', '.join(empty)}")
    unit = unit_of(outcome)
    y = unit.scale * finite(table, outcome)
    dose = table["arm"].map(doses).to_numpy(dtype=float)
    block = pd.factorize(table["block"])[0]
    drawn = _permutations(dose, block, np.random.default_rng(seed))
    centred_y = _centre(y, block)
    slope, se, df = _line(y, dose, block)
    linear = np.abs(drawn @ centred_y)
    trend = np.abs(_jonckheere(y, drawn, block))
    half = float(stats.t.ppf((1 + level) / 2, df)) * se
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
    means = np.bincount(block, weights=values) / np.bincount(block)
    return values - means[block]


def _permutations(dose: np.ndarray, block: np.ndarray, generator: np.random.Generator):
    """Return the observed doses and DRAWS permutations within blocks, fewer of many units."""
    draws = min(DRAWS, max(999, 10_000_000 // len(dose)))
    drawn = np.tile(dose, (1 + draws, 1))
    for b in range(block.max() + 1):
        rows = np.flatnonzero(block == b)
        drawn[1:, rows] = generator.permuted(drawn[1:, rows], axis=1)
    return drawn


def _jonckheere(y: np.ndarray, doses: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Count concordant less discordant pairs within blocks for each row of ``doses`` (a, n).

    Units are sorted by outcome, so that a running count of each dose tells how many lower outcomes
    had it; ties of the outcome count nothing.
    """
    levels = np.unique(doses[0])
    total = np.zeros(len(doses))
    for b in range(block.max() + 1):
        rows = np.flatnonzero(block == b)
        rows = rows[np.argsort(y[rows], kind="stable")]
        first = np.searchsorted(y[rows], y[rows], side="left")  # how many are strictly below
        drawn = doses[:, rows]
        for level in levels:
            below = np.zeros((len(doses), len(rows) + 1), dtype=np.int32)
            np.cumsum(drawn == level, axis=1, out=below[:, 1:])
            count = below[:, first]
            total += np.sum(count * np.sign(drawn - level), axis=1)
    return total


def _line(y: np.ndarray, dose: np.ndarray, block: np.ndarray) -> tuple[float, float, int]:
    """Return slope, HC2 error and n - k of y on dose and block indicators."""
    x = np.column_stack([dose, block[:, None] == np.arange(block.max() + 1)]).astype(float)
    df = len(y) - x.shape[1]
    if df < 1 or np.linalg.matrix_rank(x) < x.shape[1]:
        raise NotEstimable("too few units, or doses that do not vary within blocks")
    inverse = np.linalg.inv(x.T @ x)
    coefficients = inverse @ x.T @ y
    leverage = np.einsum("ij,jk,ik->i", x, inverse, x)
    if leverage.max() > 1 - 1e-9:
        raise NotEstimable("one unit alone decides the slope, so its HC2 variance is undefined")
    meat = x.T * ((y - x @ coefficients) ** 2 / (1 - leverage))
    covariance = inverse @ (meat @ x) @ inverse
    return float(coefficients[0]), float(np.sqrt(covariance[0, 0])), df
