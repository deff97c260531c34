"""Checks of the trial's conduct: numbers, order, machines, failures and deviations."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from analysis.formatting.numbers import p_text
from analysis.formatting.table import Table
from analysis.inference.attrition import Attrition
from analysis.inference.group_sequential import units_by_arm
from analysis.pipeline.integrity import Integrity, check_integrity, content_deviations
from analysis.pipeline.primary import Results
from analysis.secondary.context import Context
from analysis.secondary.interface import Section


class Conduct(NamedTuple):
    """Balance of the trial as it was run, and of its failures."""

    integrity: Integrity
    attrition: Attrition | None


def estimate(context: Context) -> Conduct:
    """Compare the trial as it was run with the registered one."""
    integrity = check_integrity(
        context.record.units,
        context.results.analysed,
        per_arm=units_by_arm(context.protocol),
        seed=context.protocol["seed"],
    )
    more = content_deviations(context.record)
    integrity = replace(integrity, deviations=(*integrity.deviations, *more))
    return Conduct(integrity, context.result("attrition"))


def table(results: Results, found: Conduct) -> Table:
    """Show one check a row."""
    i, a = found

    def show(p: float | None, otherwise: str) -> str:
        return otherwise if p is None else p_text(p)

    numbers = "as registered" if i.allocated_as_registered else "NOT as registered"
    rows = [
        ("allocated numbers", numbers),
        ("analysed numbers alike, p", show(i.analysed_p, "no unit analysed")),
        ("start order independent of arm, p", show(i.order_p, "not tested")),
        ("machine independent of arm, p", show(i.node_p, f"{i.nodes} machine, nothing to compare")),
    ]
    rows.append(("computed on the same processor, kernels and versions", _computed_on(i)))
    if a is not None:
        rows.append((f"failures alike in {a.arm} and {a.against}, Fisher p", p_text(a.fisher_p)))
    rows.append(("deviations", "; ".join(i.deviations) or "none recorded"))
    return Table(head=("check", "result"), rows=tuple(rows))


def _computed_on(integrity: Integrity) -> str:
    """Say whether numbers may differ between units because of what computed them."""
    if not integrity.computed_on:
        return "no difference recorded"
    return f"NO, their numbers may differ for this alone: {'; '.join(integrity.computed_on)}"


SECTION = Section(name="integrity", place="flow", estimate=estimate, table=table, style="text")
