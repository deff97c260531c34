"""Write the rows as one JSON file and one Markdown table."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpu_parts.session import Row

JSON, MARKDOWN = "gpu.json", "gpu.md"


def write_tables(
    out: Path,
    rows: list[Row],
    titles: dict[str, str],
    seconds: dict[str, float],
    command: str,
    *,
    tiny: bool,
) -> None:
    """Write both files anew.

    Args:
        out: folder.
        rows: of all parts so far.
        titles: heading of each part, in order.
        seconds: that each finished part took.
        command: with which the script was started.
        tiny: whether the networks were tiny.
    """
    document = {
        "command": command,
        "tiny": tiny,
        "seconds": seconds,
        "rows": [asdict(row) for row in rows],
    }
    (out / JSON).write_text(json.dumps(document, indent=1) + "\n")
    lines = [f"# {title_of(rows)}", "", f"`{command}`", ""]
    if tiny:
        lines += [
            "Tiny networks: the numbers show that everything runs, and mean nothing else.",
            "",
        ]
    for part, title in titles.items():
        mine = [row for row in rows if row.part == part]
        if mine:
            took = f" ({seconds[part]:.0f} s)" if part in seconds else ""
            lines += [f"## {title}{took}", "", *table(mine), ""]
    (out / MARKDOWN).write_text("\n".join(lines))


def title_of(rows: list[Row]) -> str:
    """Return the name of the GPU, or of the processor without one."""
    for row in rows:
        if row.what == "GPU" and "name" in row.numbers:
            return str(row.numbers["name"])
    return "No GPU: the CPU alone"


def table(rows: list[Row]) -> list[str]:
    """Format rows as a Markdown table; its columns are the names of their numbers."""
    names = list(dict.fromkeys(name for row in rows for name in row.numbers))
    header = ["", "verdict", *names, "note"]
    body = [[r.what, r.verdict, *(cell(r.numbers.get(n)) for n in names), r.note] for r in rows]
    rule = ["---"] * len(header)
    return ["| " + " | ".join(line) + " |" for line in (header, rule, *body)]


def cell(value: Any) -> str:
    """Format a number with three significant digits, and anything else as it is."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def count_verdicts(rows: list[Row]) -> dict[str, int]:
    """Count the rows of each verdict."""
    verdicts = [row.verdict for row in rows]
    return {verdict: verdicts.count(verdict) for verdict in dict.fromkeys(verdicts)}
