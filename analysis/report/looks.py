"""Note a look in its campaign's run, log the report to it: all that the analysis writes there."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis import schema
from analysis.pipeline.primary import Results
from analysis.record.reader import Record
from analysis.record.store import Store, Unreachable


def looks_noted(record: Record) -> dict[int, dict[str, Any]]:
    """Return the looks of the record by their number, in order.

    Raises:
        ValueError: a tag that should be one is none.
    """
    looks: dict[int, dict[str, Any]] = {}
    for name, text in record.tags.items():
        if not name.startswith(schema.LOOK_PREFIX):
            continue
        try:
            look = json.loads(text)
            number = int(name.removeprefix(schema.LOOK_PREFIX))
            p = None if look["p"] is None else float(look["p"])
            looks[number] = {kind: int(look[kind]) for kind in ("finished", "analysed")} | {"p": p}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"the tag {name} of run {record.parent_run} is no look, but {text[:80]!r}; "
                "the record was altered"
            ) from error
    return dict(sorted(looks.items()))


def looks_lost(record: Record) -> str:
    """Say that looks are not known, as the record they were noted in was lost; empty if it was not.

    Raises:
        ValueError: when the record was made again is no time.
    """
    seconds = record.tags.get(schema.REGISTERED_AGAIN, "")
    if not seconds:
        return ""
    try:
        when = datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(
            f"the tag {schema.REGISTERED_AGAIN} of run {record.parent_run} is no time, but "
            f"{seconds[:80]!r}; the record was altered"
        ) from error
    return (
        f"The record was made again on {when:%Y-%m-%d} from the campaign's folder; "
        "looks taken before are not known."
    )


def looks_taken(record: Record, results: Results) -> list[dict[str, Any]]:
    """Return the looks of the record and the present one; the same data are one look."""
    taken = list(looks_noted(record).values())
    test = results.primary.randomisation
    now = {
        "finished": results.flow.total.finished,
        "analysed": results.flow.total.analysed,
        "p": None if test is None else float(f"{test.p:.6g}"),
    }
    return taken if now in taken else [*taken, now]


def note_look(store: Store, record: Record, results: Results) -> None:
    """Record the present look before its report is written, so that every page has its look.

    Raises:
        ValueError: the record cannot be written.
    """
    noted, taken = looks_noted(record), looks_taken(record, results)
    if len(taken) == len(noted):
        return
    name = schema.look_tag(max(noted, default=0) + 1)
    with _refusing(
        f"the look at {record.campaign} cannot be recorded, so no report is written: the record "
        "is read-only; make it writable, or leave it unchanged with "
        f"`python -m analysis {shlex.quote(record.campaign)} --tracking-uri "
        f"{shlex.quote(store.uri)} --no-log`"
    ):
        store.set_tag(record.parent_run, name, json.dumps(taken[-1]))


def log_report(store: Store, record: Record, files: list[Path]) -> None:
    """Store the report's files as artifacts of the campaign's run.

    Raises:
        ValueError: the record cannot be written; the report itself is in its folder.
    """
    with _refusing(
        f"the report is in {str(files[0].parent)!r} and its look is recorded, but the record "
        "cannot store its files; make its artifacts writable, or add --no-log to "
        "`python -m analysis`"
    ):
        for path in files:
            inside = f"{schema.REPORT_FOLDER}/tables" if path.parent.name == "tables" else None
            store.log_file(record.parent_run, path, inside or schema.REPORT_FOLDER)


@contextmanager
def _refusing(refusal: str) -> Iterator[None]:
    """Raise ValueError with ``refusal`` and the kind of error if the record cannot be written."""
    try:
        yield
    except (Unreachable, OSError) as error:
        kind = type(error.__cause__ or error).__name__
        raise ValueError(f"{refusal} ({kind})") from error
