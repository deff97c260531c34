"""Correct the paths in a record whose campaign's folder was moved or copied."""

import sqlite3
from contextlib import closing
from typing import Any

from analysis import schema


def rewrite_artifact_paths(uri: str, parent: Any) -> None:
    """Let a record that a campaign keeps in its folder say where its artifacts are now.

    MLflow keeps whole paths and has no call that changes them, so its tables are written to, all of
    the experiment's paths in one transaction.

    Args:
        uri: of the tracking store.
        parent: MLflow's ``Run`` of the campaign.

    Raises:
        ValueError: the artifacts are not there, or the record cannot be written.
    """
    if schema.moved_from(uri, parent.info.artifact_uri) is None:
        return
    database = schema.database_of(uri)
    old = parent.info.artifact_uri.rsplit("/", 2)[0]
    new = database.with_name(schema.ARTIFACTS_FOLDER).as_uri()
    words = {"old": old, "new": new, "experiment": parent.info.experiment_id}
    try:
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute(
                "UPDATE experiments SET artifact_location = :new "
                "WHERE experiment_id = :experiment AND artifact_location = :old",
                words,
            )
            connection.execute(
                "UPDATE runs SET artifact_uri = :new || substr(artifact_uri, length(:old) + 1) "
                "WHERE experiment_id = :experiment "
                "AND substr(artifact_uri, 1, length(:old) + 1) = :old || '/'",
                words,
            )
    except sqlite3.Error as error:
        raise ValueError(
            f"{database.parent} was moved or copied, and its record, which has its artifacts in "
            f"{old}, takes no writing ({error}); make {database} writable"
        ) from error
