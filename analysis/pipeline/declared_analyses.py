"""Analyses that run only where the protocol declares them, by optional keys read if present.

``margins`` {outcome: fraction}, ``doses`` {arm: number}, ``matching`` {arm: ..., line: [arms]},
``families`` {name: [arms]}. (``looks`` is read by :mod:`analysis.inference.group_sequential`.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pandas as pd

from analysis import schema
from analysis.inference.noninferiority import MarginTest, margin_test
from analysis.inference.table_checks import NotEstimable
from analysis.pipeline.primary import Results
from analysis.regression.dose_response import DoseResponse, fit_dose_response
from analysis.regression.leakage_model import LeakageModel, fit_leakage_model
from analysis.regression.matched_accuracy import Matched, compare_at_matched_accuracy
from analysis.regression.mechanism import TwoStage, two_stage

_Result = TypeVar("_Result")


class Attempts:
    """Runs estimators and keeps the reasons of those that the data do not allow."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def __call__(
        self, what: str, estimator: Callable[..., _Result], *args: Any, **options: Any
    ) -> _Result | None:
        try:
            return estimator(*args, **options)
        except NotEstimable as reason:
            note = f"{what}: {reason}"
            if note not in self.notes:
                self.notes.append(note)
            return None


def declared_margins(
    attempt: Attempts, protocol: dict[str, Any], results: Results
) -> tuple[MarginTest, ...]:
    """Test each margin that the protocol declares, for the primary contrast."""
    contrast = results.contrasts[0]
    found = [
        attempt(
            f"margin of {outcome}",
            margin_test,
            results.analysed.dropna(subset=[outcome]),
            outcome,
            arm=contrast.arm,
            against=contrast.against,
            margin=float(margin),
            alpha=(results.needed or results.alpha) / 2,
        )
        for outcome, margin in protocol.get("margins", {}).items()
        if outcome in results.analysed
    ]
    return tuple(f for f in found if f is not None)


def declared_dose(protocol: dict[str, Any], results: Results) -> DoseResponse | None:
    doses = protocol.get("doses")
    if not doses:
        return None
    units, outcome = results.analysed, results.outcome
    return fit_dose_response(
        units, outcome, dict(doses), seed=protocol["seed"], level=results.level
    )


def declared_two_stage(
    attempt: Attempts, units: pd.DataFrame, results: Results, mediators: list[str]
) -> TwoStage | None:
    """Use every arm as an instrument for the first mediator; needs three arms to add anything."""
    if len(results.arms) < 3 or not mediators:
        return None
    reference = results.contrasts[0].against
    arms = [reference, *(a for a in results.arms if a != reference)]
    return attempt("2SLS", two_stage, units, results.outcome, mediators[:1], arms=arms)


def matching_line(protocol: dict[str, Any], results: Results) -> tuple[str, list[str]] | None:
    """Return the arm and the line of the matching: as declared, or the placebo's doses.

    Undeclared, the line is all other arms with the defense of the mechanism's reference, if they
    are two doses or more.
    """
    declared = protocol.get("matching")
    if declared:
        return declared["arm"], list(declared["line"])
    if results.mechanism is None:
        return None
    contrast, arms = results.mechanism.contrast, protocol["arms"]
    placebo = arms[contrast.against].get("defense")
    others = {a: recipe for a, recipe in arms.items() if a != contrast.arm}
    line = [a for a, recipe in others.items() if recipe.get("defense") == placebo]
    return (contrast.arm, line) if len(line) > 1 and placebo != "none" else None


def declared_matched(protocol: dict[str, Any], results: Results) -> Matched | None:
    found = matching_line(protocol, results)
    if found is None or schema.CLEAN_ACC not in results.analysed:
        return None
    units = results.analysed.dropna(subset=[schema.CLEAN_ACC])
    options = {"arm": found[0], "line": found[1], "level": results.level}
    return compare_at_matched_accuracy(units, results.outcome, schema.CLEAN_ACC, **options)


def declared_families(
    attempt: Attempts,
    protocol: dict[str, Any],
    units: pd.DataFrame,
    outcome: str,
    robust: list[str],
) -> dict[str, LeakageModel]:
    """Fit the leakage model apart in each family of defenses that the protocol declares."""
    found: dict[str, LeakageModel] = {}
    for name, arms in protocol.get("families", {}).items():
        mine = units.loc[units["arm"].isin(list(arms))]
        model = attempt(
            f"leakage model of {name}", fit_leakage_model, mine, outcome, schema.CLEAN_ACC, robust
        )
        if model is not None:
            found[str(name)] = model
    return found
