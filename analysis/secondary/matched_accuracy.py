"""Leakage of an arm against a line of other arms at equal clean accuracy.

Optional key of the protocol: ``matching`` {arm: ..., line: [arms]}.
"""

from __future__ import annotations

from typing import Any

from analysis import schema
from analysis.formatting.numbers import interval, needed_p, number, p_relation
from analysis.pipeline.primary import Results
from analysis.regression.matched_accuracy import Matched, compare_at_matched_accuracy
from analysis.schema.columns import label, unit_of
from analysis.secondary.context import Context
from analysis.secondary.interface import Section


def estimate(context: Context) -> Matched | None:
    """Compare at equal clean accuracy; None without a line or clean accuracy."""
    results = context.results
    line = matching_line(context.protocol, results)
    if line is None or schema.CLEAN_ACC not in results.analysed:
        return None
    units = results.analysed.dropna(subset=[schema.CLEAN_ACC])
    options = {"arm": line[0], "line": line[1], "level": results.level}
    return compare_at_matched_accuracy(units, results.outcome, schema.CLEAN_ACC, **options)


def matching_line(protocol: dict[str, Any], results: Results) -> tuple[str, list[str]] | None:
    """Return the arm and the line of the matching: as declared, or the placebo's doses.

    Where none is declared, the line is all other arms with the defense of the mechanism's
    reference, if there are two or more.
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


def sentence(results: Results, found: Matched) -> str:
    """State how the outcome compares at equal clean accuracy."""
    m, unit = found, unit_of(results.outcome)
    where = (
        ", which is outside the accuracies of the line, so the line is extrapolated"
        if m.extrapolated
        else ""
    )
    evidence = (
        f"{number(m.estimate, unit.digits, signed=True)} {unit.name} against the line of "
        f"{', '.join(m.line)} ({m.level:.0%} interval {interval(m.low, m.high, unit.digits)}, p "
        f"{p_relation(m.p)}{needed_p(results.look_threshold)})"
    )
    what = f"{label(results.outcome)} of {m.arm}"
    verdict = f"{what} differs" if m.p <= results.needed else f"{what} was not shown to differ"
    if results.undecided:
        verdict = f"whether {what} differs is not decided"
    return (
        f"At its own clean accuracy of {number(m.at, 1)}%{where}, {verdict}: {evidence}. Accuracy "
        "is itself an outcome, so this comparison is not randomised."
    )


SECTION = Section(name="matched_accuracy", place="accuracy", estimate=estimate, sentence=sentence)
