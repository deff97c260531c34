"""Log a report to its campaign's run: the only writing that the analysis does in MLflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from analysis import schema
from analysis.results import Results
from analysis.runs import Record


def looks_taken(record: Record, results: Results) -> list[dict[str, Any]]:
    """Return the looks of the record and the present one; the same data are one look."""
    text = record.tags.get(schema.LOOKS_TAG, "")
    taken: list[dict[str, Any]] = json.loads(text) if text else []
    test = results.primary.randomisation
    now = {
        "finished": results.flow.total.finished,
        "analysed": results.flow.total.analysed,
        "p": None if test is None else float(f"{test.p:.6g}"),
    }
    return taken if now in taken else [*taken, now]


def log_report(tracking_uri: str, record: Record, results: Results, files: list[Path]) -> None:
    """Store the report's files as artifacts of the campaign's run and note the look.

    Raises:
        ValueError: the record cannot be written; the report itself stands in its folder.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    client = MlflowClient(tracking_uri)
    looks = json.dumps(looks_taken(record, results))
    try:
        for path in files:
            inside = f"{schema.REPORT_FOLDER}/tables" if path.parent.name == "tables" else None
            client.log_artifact(record.parent_run, str(path), inside or schema.REPORT_FOLDER)
        client.set_tag(record.parent_run, schema.LOOKS_TAG, looks)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise ValueError(
            f"the report is in {str(files[0].parent)!r}, but the record takes no writing "
            f"({type(error).__name__}); make it writable, or add --no-log"
        ) from error
