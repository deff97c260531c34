"""Bounds of the primary effect over the missing outcomes of units that failed."""

from __future__ import annotations

import pandas as pd

from analysis import schema
from analysis.formatting.numbers import interval, p_relation
from analysis.inference.attrition import Attrition, attrition_bounds
from analysis.pipeline.primary import Results
from analysis.record.reader import Record
from analysis.schema.columns import unit_of
from analysis.secondary.context import Context
from analysis.secondary.interface import Section


def estimate(context: Context) -> Attrition:
    """Bound the primary effect over all units that have ended."""
    outcome = context.results.outcome
    return attrition_bounds(_ended_units(context.record, outcome), outcome, **context.pair)


def _ended_units(record: Record, outcome: str) -> pd.DataFrame:
    """Return every unit that has ended; the outcome of one that did not finish is NaN."""
    ended = record.units.loc[record.units["status"] != schema.PENDING]
    if outcome not in ended:
        return ended.assign(**{outcome: float("nan")})
    return ended.assign(**{outcome: ended[outcome].where(ended["status"] == schema.FINISHED)})


def sentence(results: Results, found: Attrition) -> str:
    """State how much missing outcomes could change; return nothing where none is missing."""
    a = found
    if not a.missing_arm + a.missing_against:
        return ""
    units = "units that have ended" if results.interim else "units"
    lost = (
        f"{a.missing_arm} of {a.n_arm} {units} of {a.arm} and {a.missing_against} of {a.n_against} "
        f"of {a.against} have no outcome (Fisher p {p_relation(a.fisher_p)})"
    )
    if a.worst_low is None or a.worst_high is None:
        return f"{lost}; the outcome has no largest value, so the difference has no bounds."
    worst = interval(a.worst_low, a.worst_high, unit_of(results.outcome).digits)
    same = a.worst_low > 0 or a.worst_high < 0
    rest = ", so they could reverse the direction"
    if results.undecided:
        rest = ""
    elif same:
        rest = ", so the direction does not depend on them"
    return (
        f"{lost}; whatever the missing values are, the difference lies in {worst} {a.unit}{rest}."
    )


SECTION = Section(
    name="attrition", place="flow", estimate=estimate, sentence=sentence, label="bounds"
)
