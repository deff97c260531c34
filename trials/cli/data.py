"""``atat data check``: list a dataset of image files, its problems and what to do about them."""

import json
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

from atat_ray.data import DATASETS
from atat_ray.data.interface import FileReader
from atat_ray.data.listing import abbreviate, corrupt_problem, expand
from atat_ray.data.survey import survey
from atat_ray.utils.errors import unknown
from atat_ray.utils.messages import counted
from atat_ray.utils.terminal import LINE, printable


def check(options: Namespace) -> int:
    """Check a dataset and print the result; return 0 if it can be used, else 1.

    Raises:
        ValueError: there is no dataset of this name.
    """
    result = examine(options.name, options.root)
    if options.json:
        print(json.dumps(result))
    else:
        print_table(result)
    return 0 if result["usable"] else 1


def examine(name: str, root: Path) -> dict[str, Any]:
    """List a dataset and decode each of its images.

    Returns:
        As JSON types: name, root, usable, classes and images (counts of those that can be decoded),
        smallest (class and count; None without classes), corrupt and unreadable (reason by file
        name), problems (what and advice), notes.

    Raises:
        ValueError: there is no dataset of this name.
    """
    readers = {name: kind() for name, kind in DATASETS.items() if issubclass(kind, FileReader)}
    if name not in readers:
        raise unknown("dataset of image files", name, readers)
    listing = readers[name].list_files(expand(root))
    found = survey(listing)
    lost = {**found.corrupt, **found.unreadable}
    counts = listing.counts(without=lost)
    smallest = min(range(len(counts)), key=counts.__getitem__, default=None)
    problem = corrupt_problem(listing, found.corrupt, skip=False)
    if problem:
        listing.problems.append(problem)
    if found.unreadable:
        first, *_ = found.unreadable.values()
        what, _, advice = first.partition("; ")
        count = counted(len(found.unreadable), "image")
        named = abbreviate(found.unreadable)
        listing.add_problem(f"{count} cannot be read: {named} ({what})", advice)
    published = readers[name].num_published
    if published is not None and published != len(listing.names):
        listing.notes.append(f"{len(listing.names):,} of {published:,} published images are there")
    return {
        "name": name,
        "root": str(root),
        "usable": not listing.problems,
        "classes": len(listing.classes),
        "images": sum(counts),
        "smallest": None if smallest is None else [listing.classes[smallest], counts[smallest]],
        "corrupt": found.corrupt,
        "unreadable": found.unreadable,
        "problems": [asdict(problem) for problem in listing.problems],
        "notes": listing.notes + found.notes,
    }


def print_table(result: dict[str, Any]) -> None:
    """Print the result of :func:`examine` as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result['name']} in {foreign(result['root'])}", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("classes", f"{result['classes']:,}")
    table.add_row("images", f"{result['images']:,}")
    if result["smallest"]:
        name, count = result["smallest"]
        table.add_row("smallest class", foreign(f"{name}: {count} images"))
    for row in ("corrupt", "unreadable"):
        table.add_row(row, f"{len(result[row]):,}")
    for note in result["notes"]:
        table.add_row("note", foreign(note))
    for problem in result["problems"]:
        table.add_section()
        table.add_row("[red]wrong[/red]", foreign(problem["what"]))
        table.add_row("what to do", foreign(problem["advice"]))
    table.add_section()
    table.add_row("verdict", "can be used" if result["usable"] else "[red]cannot be used[/red]")
    Console(highlight=False).print(table)


def foreign(text: str) -> str:
    """Make text with names of files fit for a table of rich."""
    from rich.markup import escape

    return escape(printable(text, LINE))
