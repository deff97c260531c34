"""Correct the artifact paths in a record whose folder was moved or copied."""

import sqlite3
from contextlib import closing
from pathlib import Path

from analysis import schema


def rewrite_artifact_paths(database: Path, experiment_id: str) -> None:
    """Rewrite the artifact paths of an experiment that lead out of the folder of its database.

    They do after the folder was moved or copied, and an altered record may name any place. MLflow
    stores absolute paths and offers no call that changes them. This function updates its tables
    directly, all paths of the experiment in one transaction.

    Args:
        database: sqlite file of the tracking store.
        experiment_id: of the campaign or sweep.

    Raises:
        ValueError: the record cannot be written.
    """
    new = schema.artifacts_of(database).as_uri()
    try:
        with closing(sqlite3.connect(database)) as connection, connection:
            runs = connection.execute(
                "SELECT run_uuid, artifact_uri FROM runs WHERE experiment_id = ?", (experiment_id,)
            ).fetchall()
            moved = [
                (f"{new}/{run_id}/artifacts", run_id)
                for run_id, place in runs
                if not schema.lies_beside(database, place or "")
            ]
            if not moved:
                return
            connection.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                (new, experiment_id),
            )
            connection.executemany("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", moved)
    except sqlite3.Error as error:
        raise ValueError(
            f"{database.parent} was moved or copied, and the paths in its record, which lead out "
            f"of it, cannot be corrected ({error}); make {database} writable"
        ) from error


def set_aside(database: Path) -> Path:
    """Rename a damaged database, and its journal, so that a new one can be written.

    Returns:
        Its new path: ``mlflow.damaged-1.db``.
    """
    number = 1
    while (kept := database.with_name(f"{database.stem}.damaged-{number}.db")).exists():
        number += 1
    for suffix in ("-journal", "-wal", "-shm"):
        journal = Path(f"{database}{suffix}")
        if journal.exists():
            journal.rename(f"{kept}{suffix}")
    return database.rename(kept)
