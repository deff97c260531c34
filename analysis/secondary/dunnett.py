"""Every arm against the reference of the primary contrast, at one joint level (Dunnett)."""

from __future__ import annotations

from analysis.formatting.numbers import interval, model_p_text, number
from analysis.formatting.table import Table
from analysis.inference.multiplicity import Dunnett, dunnett
from analysis.pipeline.primary import Results
from analysis.schema.columns import unit_of
from analysis.secondary.context import Context
from analysis.secondary.interface import Section


def estimate(context: Context) -> Dunnett | None:
    """Compare all arms with the reference; two arms are compared by the primary contrast."""
    results = context.results
    if len(results.arms) < 3:
        return None
    against = results.contrasts[0].against
    arms = [a for a in results.arms if a != against]
    units = results.analysed
    return dunnett(units, results.outcome, arms=arms, against=against, level=results.level)


def table(results: Results, found: Dunnett) -> Table:
    """Show the difference of each arm from the reference."""
    unit = unit_of(found.outcome)
    rows = tuple(
        (
            f"{a} v {found.against}",
            number(found.estimate[a], unit.digits, signed=True),
            interval(found.low[a], found.high[a], unit.digits),
            model_p_text(found.p[a]),
        )
        for a in found.p
    )
    head = ("arms", f"difference ({unit.name})", f"joint {found.level:.0%}", "adjusted p")
    return Table(head=head, rows=rows)


def title(results: Results) -> str:
    """Name the reference."""
    return f"Every arm against {results.contrasts[0].against}, at one joint level (Dunnett)"


SECTION = Section(
    name="dunnett",
    place="sensitivity",
    estimate=estimate,
    table=table,
    title=title,
    table_name="arms_dunnett",
    label="Dunnett",
)
