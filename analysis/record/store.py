"""MLflow tracking store that holds records: one client, and every way to read from it."""

from __future__ import annotations

import logging
import os
import shlex
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from analysis import schema
from analysis.record.address import (
    Unreachable,
    check_address,
    full_address,
    translate_mlflow_errors,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# MLflow reads these when it is imported or called.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

COMPLETE = ("FINISHED", "FAILED")  # MLflow status of a run that is written to its end
PARENT_TAG = "mlflow.parentRunId"
PAGE = 1000  # runs in one answer of MLflow


class Store:
    """Read the runs and artifacts of an MLflow tracking store.

    Args:
        uri: address of the store; a relative sqlite path is made absolute.
        must_exist: whether a sqlite file must hold an MLflow database already. MLflow creates one
            that is missing when the client is opened.

    Raises:
        ValueError: the address cannot be used (:func:`analysis.record.address.check_address`).
    """

    def __init__(self, uri: str, *, must_exist: bool = True) -> None:
        check_address(uri, must_exist=must_exist)
        self.uri = full_address(uri)

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow client of the store, opened at its first use."""
        from mlflow import MlflowClient

        for name in ("alembic", "mlflow"):  # they report every database and run they open
            logging.getLogger(name).setLevel(logging.ERROR)
        # It prints the traceback of an error that is raised as well.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        return MlflowClient(tracking_uri=self.uri)

    @translate_mlflow_errors
    def experiment(self, name: str) -> str | None:
        """Return the id of the experiment ``name``, or None if there is none or it was deleted."""
        found = self.client.get_experiment_by_name(name)
        return found.experiment_id if found and found.lifecycle_stage == "active" else None

    @translate_mlflow_errors
    def names(self) -> list[str]:
        """List the campaigns and sweeps of the store."""
        return sorted(e.name for e in self.client.search_experiments() if e.name != "Default")

    @translate_mlflow_errors
    def search(self, experiment_id: str, filter_string: str) -> list[Run]:
        """Return all runs of an experiment that match and are not deleted."""
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [experiment_id], filter_string, max_results=PAGE, page_token=token
            )
            runs.extend(page)
            token = page.token
            if not token:
                return runs

    def parents(self, experiment_id: str, kind: str) -> list[Run]:
        """Return the runs of a kind: ``schema.KIND_CAMPAIGN`` or ``schema.KIND_SWEEP``."""
        return self.search(experiment_id, f"tags.`{schema.KIND_TAG}` = '{kind}'")

    def children(self, experiment_id: str, parent_id: str, kind: str) -> list[Run]:
        """Return the runs of a parent: kind ``schema.KIND_UNIT`` or ``schema.KIND_POINT``."""
        query = f"tags.`{PARENT_TAG}` = '{parent_id}' and tags.`{schema.KIND_TAG}` = '{kind}'"
        return self.search(experiment_id, query)

    def parent(self, name: str, kind: str) -> Run:
        """Return the parent run of a record that can be read.

        Args:
            name: of the campaign or sweep.
            kind: ``schema.KIND_CAMPAIGN`` or ``schema.KIND_SWEEP``.

        Raises:
            ValueError: there is no such record or more than one, it has another version, or its
                folder was moved and its artifact paths are not corrected yet.
        """
        experiment_id = self.experiment(name)
        if experiment_id is None:
            known = ", ".join(self.names())
            raise ValueError(
                f"no {kind} {name!r} at {self.uri!r}; "
                + (f"known: {known}" if known else "the store holds no record")
            )
        runs = self.parents(experiment_id, kind)
        if len(runs) != 1:
            raise ValueError(
                f"experiment {name!r} must hold exactly one run tagged {schema.KIND_TAG}={kind}, "
                f"found {len(runs)}; it is not a {kind} of this platform, or two were recorded "
                "under one name"
            )
        check_version(runs[0], name, kind)
        _check_place(self.uri, runs[0], name, kind)
        return runs[0]

    def read_bytes(self, run_id: str, path: str, *, artifact_uri: str | None = None) -> bytes:
        """Read an artifact.

        Args:
            run_id: MLflow id of the run.
            path: of the artifact in the run.
            artifact_uri: of the run, if known: a file on this machine is then read in place.

        Raises:
            Unreachable: the run has no such artifact, or it cannot be read.
        """
        place = urlsplit(artifact_uri or "")
        if artifact_uri and place.scheme in ("", "file"):
            local = Path(unquote(place.path)) / path
            if local.is_file():
                return local.read_bytes()
        try:
            return self._download(run_id, path)
        except (Unreachable, OSError) as error:
            raise Unreachable(f"run {run_id} has no readable artifact {path!r}: {error}") from error

    @translate_mlflow_errors
    def _download(self, run_id: str, path: str) -> bytes:
        with TemporaryDirectory() as folder:
            return Path(self.client.download_artifacts(run_id, path, folder)).read_bytes()

    def read_text(self, run_id: str, path: str) -> str:
        """Read an artifact as UTF-8 text; raise as :meth:`read_bytes`."""
        return self.read_bytes(run_id, path).decode("utf-8")

    @translate_mlflow_errors
    def has_artifact(self, run_id: str, path: str) -> bool:
        """Tell whether a run has an artifact at its top level."""
        return path in [file.path for file in self.client.list_artifacts(run_id)]

    @translate_mlflow_errors
    def set_tag(self, run_id: str, name: str, value: str) -> None:
        """Write a tag of a run."""
        self.client.set_tag(run_id, name, value)

    @translate_mlflow_errors
    def log_file(self, run_id: str, file: Path, folder: str) -> None:
        """Store a file as an artifact of a run, in a folder of its artifacts."""
        self.client.log_artifact(run_id, str(file), folder)


def check_version(parent: Run, name: str, kind: str) -> None:
    """Refuse a record of another version than this program reads.

    Raises:
        ValueError: the message names both versions.
    """
    found = parent.data.tags.get(schema.RECORD_VERSION_TAG, "none")
    if found != schema.RECORD_VERSION:
        raise ValueError(
            f"the record of {kind} {name!r} has version {found}, this program reads version "
            f"{schema.RECORD_VERSION}; run the {kind} again with this program, or read the record "
            "with the program that made it"
        )


def _check_place(uri: str, parent: Run, name: str, kind: str) -> None:
    """Refuse a record whose folder was moved or copied: its artifact paths lead to the old place.

    Reading writes nothing, so the message names the command that corrects the paths.
    """
    former = schema.moved_from(uri, parent.info.artifact_uri or "")
    if former is not None:
        folder = schema.database_of(uri).parent
        command = "resume" if kind == schema.KIND_SWEEP else "verify"
        raise ValueError(
            f"{folder} was moved or copied, and its record still has its artifacts in {former}; "
            f"`atat {command} {shlex.quote(name)} --out {shlex.quote(str(folder))}` corrects that"
        )
