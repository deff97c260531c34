"""Looks that the protocol planned, with the threshold of each."""

from __future__ import annotations

from analysis.formatting.numbers import p_text
from analysis.formatting.table import Table
from analysis.inference.group_sequential import Look
from analysis.inference.table_checks import counted
from analysis.pipeline.primary import Results
from analysis.secondary.context import Context
from analysis.secondary.interface import Section


def estimate(context: Context) -> tuple[Look, ...] | None:
    """Return the planned looks; None where the protocol plans none before the end."""
    return context.results.looks or None


def table(results: Results, found: tuple[Look, ...]) -> Table:
    """Show the planned looks and mark the present one."""
    rows = tuple(
        (
            f"after {counted(look.blocks, 'block')}",
            p_text(look.threshold),
            p_text(look.normal_p),
            p_text(look.smallest_p),
            "this look" if look == results.look else "",
        )
        for look in found
    )
    head = ("look", "stop at p of", "normal theory", "smallest possible p", "")
    return Table(head=head, rows=rows)


SECTION = Section(name="looks", place="looks", estimate=estimate, table=table)
