"""Correct the artifact paths in a record whose folder was moved or copied."""

import sqlite3
from contextlib import closing
from typing import Any

from analysis import schema


def rewrite_artifact_paths(uri: str, parent: Any) -> None:
    """Rewrite the artifact paths of a record in a run folder after the folder moved.

    MLflow stores absolute paths and offers no call that changes them. This function updates its
    tables directly, all paths of the experiment in one transaction.

    Args:
        uri: of the tracking store.
        parent: MLflow's ``Run`` of the campaign or sweep.

    Raises:
        ValueError: the artifacts are missing, or the record cannot be written.
    """
    if schema.moved_from(uri, parent.info.artifact_uri) is None:
        return
    database = schema.database_of(uri)
    old = parent.info.artifact_uri.rsplit("/", 2)[0]
    new = database.with_name(schema.ARTIFACTS_FOLDER).as_uri()
    values = {"old": old, "new": new, "experiment": parent.info.experiment_id}
    try:
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute(
                "UPDATE experiments SET artifact_location = :new "
                "WHERE experiment_id = :experiment AND artifact_location = :old",
                values,
            )
            connection.execute(
                "UPDATE runs SET artifact_uri = :new || substr(artifact_uri, length(:old) + 1) "
                "WHERE experiment_id = :experiment "
                "AND substr(artifact_uri, 1, length(:old) + 1) = :old || '/'",
                values,
            )
    except sqlite3.Error as error:
        raise ValueError(
            f"{database.parent} was moved or copied, and the paths in its record, which begin with "
            f"{old}, cannot be corrected ({error}); make {database} writable"
        ) from error
