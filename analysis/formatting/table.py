"""Tables of text cells, and their form as CSV and Markdown."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass

from analysis.formatting.foreign_text import csv_cell, visible


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

    def write(row: tuple[str, ...]) -> None:
        writer.writerow([csv_cell(cell) for cell in row])

    grouped = any(len(row) == 1 for row in table.rows)
    write(("group", *table.head) if grouped else table.head)
    group = ""
    for row in table.rows:
        if len(row) == 1:
            group = row[0]
            continue
        write((group, *row) if grouped else row)
    return buffer.getvalue()


def markdown_text(text: str) -> str:
    """Write a text on one line of Markdown, outside of HTML and of the cells beside it."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", visible(text)).replace("|", "\\|")


def table_markdown(table: Table) -> str:
    """Return a table as a Markdown pipe table; the heading of a group is in italics."""

    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(markdown_text(cell) for cell in cells) + " |"

    width = len(table.head)
    rows = [
        line((f"*{row[0]}*", *[""] * (width - 1)) if len(row) == 1 else row) for row in table.rows
    ]
    rule = "|" + "|".join([" --- ", *[" ---: "] * (width - 1)]) + "|"
    return "\n".join([line(table.head), rule, *rows]) + "\n"


def tables_document(title: str, opening: str, tables: dict[str, Table]) -> str:
    """Return all tables as one Markdown document; each has its name as heading."""
    parts = [f"# {markdown_text(title)}\n\n{markdown_text(opening)}\n"]
    for name, table in tables.items():
        parts.append(f"## {name.replace('_', ' ')}\n\n{table_markdown(table)}")
    return "\n".join(parts)
