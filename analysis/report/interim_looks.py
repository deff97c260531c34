"""Looks at a campaign: read, record the present one, and log the report to the record."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis import schema
from analysis.claims import Judgement
from analysis.pipeline.primary import Results
from analysis.record.json_text import parse_json
from analysis.record.reader import Record
from analysis.record.store import Store, Unreachable
from analysis.secondary.claims import recorded_judgement


def recorded_looks(record: Record) -> dict[int, dict[str, Any]]:
    """Return the recorded looks by number, in order.

    Raises:
        ValueError: the tag of a look is malformed.
    """
    looks: dict[int, dict[str, Any]] = {}
    for name, text in record.tags.items():
        if not name.startswith(schema.LOOK_PREFIX):
            continue
        try:
            look = parse_json(text, dict, name)
            number = int(name.removeprefix(schema.LOOK_PREFIX))
            p = None if look["p"] is None else float(look["p"])
            looks[number] = {kind: int(look[kind]) for kind in ("finished", "analysed")} | {"p": p}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"the tag {name} of run {record.parent_run} is not a look: {text[:80]!r}; "
                "the record was altered"
            ) from error
    return dict(sorted(looks.items()))


def lost_looks(record: Record) -> str:
    """State that earlier looks are unknown because the record was lost; empty if it was not.

    Raises:
        ValueError: the time at which the record was recreated is malformed.
    """
    seconds = record.tags.get(schema.REGISTERED_AGAIN, "")
    if not seconds:
        return ""
    try:
        when = datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(
            f"the tag {schema.REGISTERED_AGAIN} of run {record.parent_run} is not a time: "
            f"{seconds[:80]!r}; the record was altered"
        ) from error
    return (
        f"The record was lost and was recreated on {when:%Y-%m-%d} from the campaign's folder; "
        "looks before that date are unknown."
    )


def all_looks(record: Record, results: Results) -> list[dict[str, Any]]:
    """Return the recorded looks and the present one, which is new only if the data are new."""
    taken = list(recorded_looks(record).values())
    test = results.primary.randomisation
    now = {
        "finished": results.flow.total.finished,
        "analysed": results.flow.total.analysed,
        "p": None if test is None else float(f"{test.p:.6g}"),
    }
    return taken if now in taken else [*taken, now]


def record_look(store: Store, record: Record, results: Results) -> None:
    """Record the present look before its report is written, so that every page has its look.

    Raises:
        ValueError: the record cannot be written.
    """
    recorded, looks = recorded_looks(record), all_looks(record, results)
    if len(looks) == len(recorded):
        return
    _record(store, record, schema.look_tag(max(recorded, default=0) + 1), looks[-1])


def record_verdicts(
    store: Store, record: Record, results: Results, found: dict[str, Judgement] | None
) -> None:
    """Record the verdicts on the protocol's claims before their page is written.

    Raises:
        ValueError: the record cannot be written.
    """
    for name, judgement in (found or {}).items():
        content = recorded_judgement(judgement, results)
        _record(store, record, schema.CLAIM_PREFIX + name, content)


def _record(store: Store, record: Record, name: str, content: dict[str, Any]) -> None:
    """Set a tag of the campaign's run to JSON."""
    with _refusing(
        f"the look at {record.campaign} cannot be recorded, so no report is written: the record "
        "is read-only; make it writable, or leave it unchanged with "
        f"`python -m analysis {shlex.quote(record.campaign)} --tracking-uri "
        f"{shlex.quote(store.uri)} --no-log`"
    ):
        store.set_tag(record.parent_run, name, json.dumps(content))


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
