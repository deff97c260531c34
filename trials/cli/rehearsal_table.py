"""Print the result of a rehearsal, as a table or as JSON."""

import json
from dataclasses import asdict
from typing import Any

from atat_ray.utils.terminal import LINE, printable
from trials.planning.rehearsal import GIB, Rehearsal


def print_rehearsal(rehearsal: Rehearsal, *, as_json: bool) -> None:
    """Print a table of the stages of each kind of unit and the verdict, or one JSON object."""
    if as_json:
        print(json.dumps(as_object(rehearsal)))
    else:
        print_table(rehearsal)


def as_object(rehearsal: Rehearsal) -> dict[str, Any]:
    """Return a rehearsal as JSON types."""
    kinds = [
        {
            "kind": kind.name,
            "alike": kind.alike,
            "problem": kind.problem,
            "steps": [asdict(step) for step in kind.steps],
        }
        for kind in rehearsal.kinds
    ]
    return {
        "name": rehearsal.name,
        "passed": rehearsal.passed,
        "device": rehearsal.device,
        "notes": rehearsal.notes,
        "kinds": kinds,
    }


def print_table(rehearsal: Rehearsal) -> None:
    """Print the stages of each kind, the differences from a run, and the verdict."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{rehearsal.name}: one step of every stage on {rehearsal.device}")
    for column in ("kind of unit", "stage", "seconds", "peak GiB", "result"):
        table.add_column(column, justify="right" if column in ("seconds", "peak GiB") else "left")
    for kind in rehearsal.kinds:
        name = f"{kind.name}, {kind.spec.architecture}"
        name += f" (and {len(kind.alike)} alike)" if kind.alike else ""
        for number, step in enumerate(kind.steps):
            table.add_row(
                escape(name) if number == 0 else "",
                escape(step.stage),
                f"{step.seconds:.1f}",
                "" if step.peak is None else f"{step.peak / GIB:.1f}",
                escape(printable(step.problem, LINE)) if step.problem else "OK",
            )
        table.add_section()
    console = Console(highlight=False)
    console.print(table)
    for note in rehearsal.notes:
        console.print(f"note: {printable(note, LINE)}", markup=False)
    console.print(verdict(rehearsal), markup=False)


def verdict(rehearsal: Rehearsal) -> str:
    """Say how many kinds of unit failed, and how long the rehearsal took."""
    kinds = rehearsal.kinds
    failed = sum(bool(kind.problem) for kind in kinds)
    seconds = sum(step.seconds for kind in kinds for step in kind.steps)
    result = f"{failed} of {len(kinds)} kinds FAILED" if failed else "every kind of unit runs"
    return f"{result} ({seconds:.0f} s)"
