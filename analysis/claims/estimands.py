"""Kinds of estimand that a claim may be about; each has an estimate and a confidence set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.claims.cell_moments import cell_moments
from analysis.claims.matched_curves import CurveDifference, compare_curves
from analysis.inference.difference import Difference, difference_in_means
from analysis.inference.ols import block_indicators, cr2
from analysis.inference.table_checks import NotEstimable, outcome_values
from analysis.regression.fieller import ConfidenceSet, fieller
from analysis.schema.columns import label, unit_of
from analysis.schema.names import CLEAN_ACC


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Estimate of a claim's estimand in its printed unit."""

    what: str  # words for the estimand, as the subject of a sentence
    value: float
    confidence: ConfidenceSet
    unit: str  # as it follows the number; empty for a ratio
    digits: int
    scale: float  # printed unit over the unit of the protocol


def estimate(
    units: pd.DataFrame, protocol: dict[str, Any], estimand: dict[str, Any], level: float
) -> Estimate:
    """Estimate the estimand of a claim.

    Args:
        units: one row a finished unit.
        protocol: with the keys ``contrasts`` and ``outcome``.
        estimand: options by kind; those of one kind are not None.
        level: of the confidence set.

    Raises:
        NotEstimable: the units do not allow it.
    """
    kind, options = next((k, v) for k, v in estimand.items() if v is not None)
    return KINDS[kind](units, protocol, options, level)


def _contrast(
    units: pd.DataFrame, protocol: dict[str, Any], options: dict[str, Any], level: float
) -> Estimate:
    """Estimate a difference in means of two arms."""
    pair, outcome = _registered(protocol, options)
    found = difference_in_means(_measured(units, outcome), outcome, **pair, level=level)
    return _difference(found, outcome, f"of {pair['arm']} minus that of {pair['against']}")


def _matched(
    units: pd.DataFrame, protocol: dict[str, Any], options: dict[str, Any], level: float
) -> Estimate:
    """Estimate a difference of two curves of doses at equal loss of clean accuracy."""
    outcome = options.get("outcome") or protocol["outcome"]
    found = compare_curves(
        _measured(units, outcome, CLEAN_ACC),
        outcome,
        CLEAN_ACC,
        curve=options["curve"],
        against=options["against"],
        control=options["control"],
        loss=options["loss"],
        level=level,
    )
    return _difference(
        found,
        outcome,
        f"on the curve of {', '.join(found.curve)} minus that on the curve of "
        f"{', '.join(found.against)}, where both have lost {found.loss:g} points of clean "
        "accuracy,",
    )


def _difference(found: Difference | CurveDifference, outcome: str, sides: str) -> Estimate:
    """Return a difference in an outcome as an estimate; ``sides`` follows the outcome's name."""
    unit = unit_of(outcome)
    return Estimate(
        what=f"{label(outcome)} {sides}",
        value=found.estimate,
        confidence=_interval(found.low, found.high, found.level),
        unit=unit.name,
        digits=unit.digits,
        scale=unit.scale,
    )


def _ratio(
    units: pd.DataFrame, protocol: dict[str, Any], options: dict[str, Any], level: float
) -> Estimate:
    """Estimate a ratio of two effects, with Fieller's set."""
    sides = [_registered(protocol, options[side]) for side in ("numerator", "denominator")]
    columns = list(dict.fromkeys(outcome for _, outcome in sides))
    arms = list(dict.fromkeys(arm for pair, _ in sides for arm in pair.values()))
    moments = cell_moments(_measured(units, *columns), columns, arms)
    gradients, effects = [], []
    for pair, outcome in sides:
        column = np.eye(len(columns))[columns.index(outcome)]
        gradients.append({pair["arm"]: column, pair["against"]: -column})
        effects.append(moments.mean(pair["arm"], outcome) - moments.mean(pair["against"], outcome))
    errors = [moments.error(gradient)[0] for gradient in gradients]
    value = effects[0] / effects[1] if effects[1] else float("nan")
    # the numerator minus the ratio times the denominator is what Fieller's method tests
    zero = np.zeros(len(columns))
    joint = {
        arm: gradients[0].get(arm, zero)
        - (value if effects[1] else 0.0) * gradients[1].get(arm, zero)
        for arm in arms
    }
    confidence = fieller(
        *effects,
        variances=(errors[0] ** 2, errors[1] ** 2),
        covariance=moments.covariance(*gradients),
        critical=float(stats.t.ppf((1 + level) / 2, moments.error(joint)[1])),
        level=level,
    )
    words = [f"the effect of {p['arm']} against {p['against']} on {label(o)}" for p, o in sides]
    return Estimate(
        what=f"{words[0]}, divided by {words[1]},",
        value=value,
        confidence=confidence,
        unit="",
        digits=2,
        scale=1.0,
    )


def _slope(
    units: pd.DataFrame, protocol: dict[str, Any], options: dict[str, Any], level: float
) -> Estimate:
    """Estimate a slope of leakage on an accuracy over models of many arms.

    Least squares with block indicators. Units of an arm are trained alike, so errors are clustered
    by arm (CR2 with Satterthwaite's degrees of freedom).
    """
    outcome = options.get("outcome") or protocol["outcome"]
    columns = [options["of"], *(options.get("beside") or [])]
    table = _measured(units, outcome, *columns)
    if options.get("arms"):
        table = table.loc[table["arm"].isin(options["arms"])]
    y = unit_of(outcome).scale * outcome_values(table, outcome)
    x = np.column_stack([unit_of(c).scale * outcome_values(table, c) for c in columns])
    design = np.column_stack([x, block_indicators(pd.factorize(table["block"])[0])])
    scaled = design / np.maximum(np.linalg.norm(design, axis=0), 1e-300)
    if len(table) <= design.shape[1] or np.linalg.matrix_rank(scaled, tol=1e-9) < design.shape[1]:
        raise NotEstimable(
            f"{len(table)} units do not determine the slopes of {', '.join(map(label, columns))}"
        )
    value, variance, df = cr2(y, design, pd.factorize(table["arm"])[0])
    if not variance > 0:
        raise NotEstimable("nothing varies between arms, so the error of the slope is unknown")
    half = float(stats.t.ppf((1 + level) / 2, df)) * variance**0.5
    fixed = f" at fixed {' and '.join(map(label, columns[1:]))}" if columns[1:] else ""
    return Estimate(
        what=f"the slope of {label(outcome)} on {label(columns[0])}{fixed}",
        value=value,
        confidence=_interval(value - half, value + half, level),
        unit="points per point",
        digits=2,
        scale=1.0,
    )


KINDS: dict[str, Callable[[pd.DataFrame, dict[str, Any], dict[str, Any], float], Estimate]] = {
    "contrast": _contrast,
    "matched": _matched,
    "ratio": _ratio,
    "slope": _slope,
}


def _registered(protocol: dict[str, Any], options: dict[str, Any]) -> tuple[dict[str, str], str]:
    """Return the arms of a registered contrast as keyword arguments, and the outcome."""
    contrast = protocol["contrasts"][options["contrast"]]
    pair = {"arm": contrast["arm"], "against": contrast["against"]}
    return pair, options.get("outcome") or protocol["outcome"]


def _measured(units: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return the units for which the columns were measured.

    Raises:
        NotEstimable: a column was never measured.
    """
    for column in columns:
        if column not in units:
            raise NotEstimable(f"{label(column)} was not measured")
    return units.dropna(subset=list(columns))


def _interval(low: float, high: float, level: float) -> ConfidenceSet:
    return ConfidenceSet(pieces=((low, high),), level=level)
