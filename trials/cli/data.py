"""``atat data check``: list a dataset in files, what is missing and what to do about it."""

import json
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

from atat_ray.data import DATASETS
from atat_ray.data.decoding import Corrupt, decode_all
from atat_ray.data.interface import FileReader
from atat_ray.data.listing import Problem, abbreviate
from atat_ray.utils.errors import unknown

SIDE = 32  # pixels; decoding reads a whole file at any size


def check(options: Namespace) -> int:
    """Check a dataset and print the result; return 0 if it can be used, else 1.

    Raises:
        ValueError: there is no dataset of this name.
    """
    found = examine(options.name, options.root)
    print(json.dumps(found)) if options.json else show(found)
    return 0 if found["usable"] else 1


def examine(name: str, root: Path) -> dict[str, Any]:
    """List a dataset and decode each of its images.

    Returns:
        name, root, usable, classes and images (counts), smallest (its class and count, if there is
        one), corrupt (names and reasons), problems (what and advice), notes; JSON can hold it.

    Raises:
        ValueError: there is no dataset of this name.
    """
    readers = {name: kind() for name, kind in DATASETS.items() if issubclass(kind, FileReader)}
    if name not in readers:
        raise unknown("dataset of image files", name, readers)
    listing = readers[name].list_files(root.expanduser())
    counts = dict(zip(listing.classes, listing.counts(), strict=True))
    smallest = min(counts, key=lambda one: counts[one], default=None)
    corrupt = {
        listing.names[number]: str(image)
        for number, image in decode_all(listing, size=SIDE)
        if isinstance(image, Corrupt)
    }
    if corrupt:
        advice = "replace them, or set skip_corrupt: true in data to leave them out"
        what = f"{len(corrupt)} images cannot be decoded: {abbreviate(corrupt)}"
        listing.problems.append(Problem(what, advice))
    return {
        "name": name,
        "root": str(root),
        "usable": not listing.problems,
        "classes": len(listing.classes),
        "images": len(listing.names),
        "smallest": None if smallest is None else [smallest, counts[smallest]],
        "corrupt": corrupt,
        "problems": [asdict(problem) for problem in listing.problems],
        "notes": listing.notes,
    }


def show(found: dict[str, Any]) -> None:
    """Print what was found as a table."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{found['name']} in {escape(found['root'])}", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("classes", f"{found['classes']:,}")
    table.add_row("images", f"{found['images']:,}")
    if found["smallest"]:
        name, count = found["smallest"]
        table.add_row("smallest class", escape(f"{name}: {count} images"))
    table.add_row("corrupt", f"{len(found['corrupt']):,}")
    for note in found["notes"]:
        table.add_row("note", escape(note))
    for problem in found["problems"]:
        table.add_section()
        table.add_row("[red]wrong[/red]", escape(problem["what"]))
        table.add_row("what to do", escape(problem["advice"]))
    table.add_section()
    table.add_row("verdict", "can be used" if found["usable"] else "[red]cannot be used[/red]")
    Console(highlight=False).print(table)
