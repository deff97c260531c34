"""Write tables as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path


def table_csv(table: Table) -> str:
    """Return a table as CSV; a row that heads a group becomes the first column of its rows."""
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
    """Return a table as a Markdown pipe table; a row that heads a group is set in italics."""

    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    width = len(table.head)
    rows = [
        line((f"*{row[0]}*", *[""] * (width - 1)) if len(row) == 1 else row) for row in table.rows
    ]
    rule = "|" + "|".join([" --- ", *[" ---: "] * (width - 1)]) + "|"
    return "\n".join([line(table.head), rule, *rows]) + "\n"


def document(title: str, opening: str, tables: dict[str, Table]) -> str:
    """Return all tables under one title as Markdown."""
    parts = [f"# {title}\n\n{opening}\n"]
    for name, table in tables.items():
        parts.append(f"## {name.replace('_', ' ')}\n\n{table_markdown(table)}")
    return "\n".join(parts)


def write(path: Path, text: str) -> None:
    """Replace ``path`` at once, so that no reader sees half a file."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Cells as text; the first column names the row, and a row of one cell heads a group."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
