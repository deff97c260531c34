"""MLflow tracking store that holds records: one client, and every way to read from it."""

from __future__ import annotations

import logging
import os
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from analysis import schema
from analysis.record.address import Address
from analysis.record.artifacts import check_not_moved, checked_place, local_file
from analysis.record.connection import check_address
from analysis.record.errors import Unreachable, translate_mlflow_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

# MLflow reads these when it is imported or called.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

COMPLETE = ("FINISHED", "FAILED")  # MLflow status of a run that is written to its end
PARENT_TAG = "mlflow.parentRunId"
DEFAULT_EXPERIMENT = "0"  # MLflow's id of the experiment that every store has
PAGE = 1000  # runs in one answer of MLflow


class Store:
    """Read the runs and artifacts of an MLflow tracking store.

    Args:
        uri: address of the store, as the user gave it; a relative sqlite path is made absolute.
        must_exist: whether a sqlite file must hold an MLflow database already. MLflow creates one
            that is missing when the client is opened.

    Raises:
        ValueError: the address cannot be used
            (:func:`analysis.record.connection.check_address`).
    """

    def __init__(self, uri: str, *, must_exist: bool = True) -> None:
        self.uri = Address(uri)
        check_address(self.uri, must_exist=must_exist)

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow client of the store, opened at its first use."""
        from mlflow import MlflowClient

        for name in ("alembic", "mlflow"):  # they report every database and run they open
            logging.getLogger(name).setLevel(logging.ERROR)
        # It prints the traceback of an error that is raised as well.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        path = self.uri.database
        if path is not None and path.parent.is_dir() and not path.exists():
            create_database(path)
        return MlflowClient(tracking_uri=self.uri.full)

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
                f"no {kind} {name!r} at {str(self.uri)!r}; "
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
        check_not_moved(self.uri, runs[0].info.artifact_uri or "", name, kind)
        return runs[0]

    @translate_mlflow_errors
    def place(self, run_id: str) -> str:
        """Return the place of a run's artifacts, as the record names it."""
        return self.client.get_run(run_id).info.artifact_uri or ""

    def read_bytes(self, run_id: str, path: str, *, artifact_uri: str | None = None) -> bytes:
        """Read an artifact.

        Args:
            run_id: MLflow id of the run.
            path: of the artifact in the run.
            artifact_uri: of the run, if known.

        Raises:
            Unreachable: the run has no such artifact, or it cannot be read.
            ValueError: the record names a place that the address does not lead to.
        """
        place = checked_place(self.uri, artifact_uri or self.place(run_id))
        file = local_file(place, path)
        try:
            return self._download(place, path) if file is None else file.read_bytes()
        except (Unreachable, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise Unreachable(
                f"run {run_id} has no readable artifact {path!r} ({reason}); `atat resume` writes "
                "artifacts that are missing again"
            ) from error

    @translate_mlflow_errors
    def _download(self, place: str, path: str) -> bytes:
        with TemporaryDirectory() as folder:
            return Path(self._artifacts(place).download_artifacts(path, folder)).read_bytes()

    def _artifacts(self, place: str) -> ArtifactRepository:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        checked = checked_place(self.uri, place)
        return get_artifact_repository(checked, tracking_uri=self.uri.full)

    def read_text(self, run_id: str, path: str) -> str:
        """Read an artifact as text, for comparison; raise as :meth:`read_bytes`.

        What is not UTF-8 is replaced, so that an altered artifact differs from the one expected.
        """
        return self.read_bytes(run_id, path).decode("utf-8", errors="replace")

    def artifacts(self, run_id: str, folder: str = "", *, artifact_uri: str = "") -> list[str]:
        """List the artifacts of a run in a folder, as paths in the run; "" is its top level."""
        return self._list(artifact_uri or self.place(run_id), folder)

    @translate_mlflow_errors
    def _list(self, place: str, folder: str) -> list[str]:
        return [file.path for file in self._artifacts(place).list_artifacts(folder or None)]

    def missing(self, run_id: str, paths: list[str], *, artifact_uri: str = "") -> list[str]:
        """List which of these artifacts a run does not have."""
        folders = {path.rpartition("/")[0] for path in paths}
        there = {
            path
            for folder in folders
            for path in self.artifacts(run_id, folder, artifact_uri=artifact_uri)
        }
        return [path for path in paths if path not in there]

    @translate_mlflow_errors
    def check_artifacts(self, experiment_id: str) -> None:
        """Check that the artifacts of an experiment can be stored from this machine.

        Args:
            experiment_id: of the experiment; if empty, where those of a new one will lie.

        Raises:
            ValueError: the place is not one that the address leads to, its package is missing, it
                does not answer, or it cannot be written.
        """
        found = self.client.get_experiment(experiment_id or DEFAULT_EXPERIMENT)
        if self.uri.database is not None or found is None:
            return
        place = checked_place(self.uri, found.artifact_location)
        folder = schema.path_of(place)
        while folder is not None and not folder.exists():
            folder = folder.parent
        if folder is None:
            self._artifacts(place).list_artifacts()
        elif not os.access(folder, os.W_OK):
            raise ValueError(
                f"the record at {self.uri} has its artifacts in {schema.path_of(place)}, which "
                "cannot be written from this machine; let the server store them itself "
                "(`mlflow server --serve-artifacts`)"
            )

    def has_artifact(self, run_id: str, path: str) -> bool:
        """Tell whether a run has an artifact at its top level."""
        return path in self.artifacts(run_id)

    @translate_mlflow_errors
    def set_tag(self, run_id: str, name: str, value: str) -> None:
        """Write a tag of a run."""
        self.client.set_tag(run_id, name, value)

    def write_text(self, run_id: str, text: str, path: str) -> None:
        """Store a text as an artifact of a run."""
        self.write_bytes(run_id, text.encode("utf-8"), path)

    def write_bytes(self, run_id: str, content: bytes, path: str) -> None:
        """Store bytes as an artifact of a run."""
        with TemporaryDirectory() as folder:
            file = Path(folder, Path(path).name)
            file.write_bytes(content)
            parent = Path(path).parent
            self.log_file(run_id, file, "" if parent == Path() else str(parent))

    def write_changed(self, run_id: str, expected: dict[str, bytes], there: list[str]) -> None:
        """Write the artifacts of a run that are not there or hold something else.

        Args:
            run_id: MLflow id of the run.
            expected: content by path.
            there: paths of the artifacts that the run has.
        """
        for path, content in expected.items():
            if path not in there or self.read_bytes(run_id, path) != content:
                self.write_bytes(run_id, content, path)

    @translate_mlflow_errors
    def log_file(self, run_id: str, file: Path, folder: str) -> None:
        """Store a file as an artifact of a run, in a folder of its artifacts."""
        self._artifacts(self.place(run_id)).log_artifact(str(file), folder or None)


def create_database(path: Path) -> None:
    """Create an empty MLflow database, whole or not at all.

    MLflow cannot open a database whose creation was interrupted, by a full disk or a kill.
    """
    from mlflow import MlflowClient

    # A folder of its own: MLflow keeps connections open by path, those of a failed creation too.
    with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        part = Path(folder, path.name)
        MlflowClient(tracking_uri=f"sqlite:///{part}").search_experiments()
        try:
            os.link(part, path)
        except FileExistsError:
            pass  # another process has created it meanwhile
        except OSError:  # no hard links on this file system
            os.replace(part, path)


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
