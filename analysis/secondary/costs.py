"""Accuracy that a lower leakage costs, by three readings of the same units."""

from __future__ import annotations

from analysis import schema
from analysis.formatting.numbers import interval, number, unit_names
from analysis.formatting.table import Table
from analysis.pipeline.primary import Results
from analysis.regression.leakage_model import Cost, cost_table
from analysis.schema.columns import short_label, unit_of
from analysis.secondary.context import Context
from analysis.secondary.interface import Section
from analysis.secondary.leakage_model import title


def estimate(context: Context) -> list[Cost] | None:
    """Invert the slopes of leakage on each accuracy; None where no accuracy is recorded."""
    results = context.results
    if schema.CLEAN_ACC not in results.analysed or not context.joint:
        return None
    return list(
        cost_table(
            context.complete,
            results.outcome,
            schema.CLEAN_ACC,
            context.joint,
            level=results.level,
        )
    )


def table(results: Results, found: list[Cost]) -> Table:
    """Show points of accuracy for one unit of leakage by the three readings."""
    digits = 2 if unit_of(results.outcome).name == "pp" else 0  # a distance of 1 costs hundreds

    def cost(value: float) -> str:
        return "unbounded" if abs(value) == float("inf") else number(value, digits, signed=True)

    rows = tuple(
        (
            short_label(c.accuracy),
            f"{cost(c.partial)} ({c.partial_set})",
            f"{cost(c.simple)} ({c.simple_set})",
            f"{cost(c.reverse)} ({interval(c.reverse_low, c.reverse_high, digits)})",
        )
        for c in found
    )
    head = ("accuracy", "partial, 1/slope", "simple, 1/slope", "reverse slope")
    return Table(head=head, rows=rows)


def note(results: Results, found: list[Cost]) -> str:
    """Explain the three columns."""
    return (
        f"Points of accuracy for {unit_names(results.outcome)['one']}, by three readings that "
        "differ. No reading is the cost of a particular defense. Sets of 1/slope are Fieller's, "
        "HC3; unbounded means that the slope may be zero."
    )


SECTION = Section(
    name="costs", place="leakage", estimate=estimate, table=table, title=title, note=note
)
