"""Tables of text cells, and their form as CSV and Markdown."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Table of text cells.

    The first column names the row. A row of one cell is the heading of the rows below it.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def table_csv(table: Table) -> str:
    """Return a table as CSV; the heading of a group becomes the first column of its rows."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    grouped = any(len(row) == 1 for row in table.rows)
    writer.writerow(("group", *table.head) if grouped else table.head)
    group = ""
    for row in table.rows:
        if len(row) == 1:
            group = row[0]
            continue
        writer.writerow((group, *row) if grouped else row)
    return buffer.getvalue()


def table_markdown(table: Table) -> str:
    """Return a table as a Markdown pipe table; the heading of a group is in italics."""

    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    width = len(table.head)
    rows = [
        line((f"*{row[0]}*", *[""] * (width - 1)) if len(row) == 1 else row) for row in table.rows
    ]
    rule = "|" + "|".join([" --- ", *[" ---: "] * (width - 1)]) + "|"
    return "\n".join([line(table.head), rule, *rows]) + "\n"


def tables_document(title: str, opening: str, tables: dict[str, Table]) -> str:
    """Return all tables as one Markdown document; each has its name as heading."""
    parts = [f"# {title}\n\n{opening}\n"]
    for name, table in tables.items():
        parts.append(f"## {name.replace('_', ' ')}\n\n{table_markdown(table)}")
    return "\n".join(parts)
