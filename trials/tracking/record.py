"""Write the record of a campaign or sweep to MLflow.

A record is one experiment with one parent run and one child run a unit. A child run is found by its
``unit_id`` and created if absent. One that was being written when the process died is written anew,
so that a unit has one run and every value in it stands once. The report adds its own artifacts and
tags of looks; nothing else writes to a record.
"""

import json
import os
import time
from typing import Any

from analysis import schema
from analysis.record.errors import translate_mlflow_errors
from analysis.record.store import COMPLETE, PARENT_TAG, Store, check_version
from trials.allocation import Assignment, to_csv
from trials.config.settings import Settings, canonical_json
from trials.tracking.compare import altered, is_recorded
from trials.tracking.kinds import SWEEP, TRIAL, RecordKind
from trials.tracking.outcome_tables import artifacts_of, assets_text, metrics_of
from trials.tracking.relocate import rewrite_artifact_paths

# A campaign repeats a failed request itself, after checking what was written. MLflow would repeat a
# request that timed out without checking, and a unit would have two runs.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

BATCH = 1000  # metrics that MLflow takes in one call


class MlflowRecord:
    """The record of one campaign or sweep.

    Args:
        uri: address of the MLflow tracking store.
        name: of the experiment.
        kind: of what is recorded.
    """

    def __init__(self, uri: str, name: str, kind: RecordKind = TRIAL) -> None:
        self.store = Store(uri, must_exist=False)
        self.uri = self.store.uri
        self.name = name
        self.kind = kind
        self.experiment_id = ""
        self.parent_id = ""

    @translate_mlflow_errors
    def attach(self) -> bool:
        """Find experiment and parent run; return whether they exist.

        The artifact paths of a record that was moved or copied with its folder are corrected.

        Raises:
            ValueError: the record has another version.
        """
        database = self.uri.database
        if database is not None and not database.exists():
            return False  # MLflow would create it
        experiment_id = self.store.experiment(self.name)
        if experiment_id is None:
            return False
        self.experiment_id = experiment_id
        parents = self.store.parents(experiment_id, self.kind.parent)
        if not parents:
            return False
        check_version(parents[0], self.name, self.kind.parent)
        self.parent_id = parents[0].info.run_id
        if database is not None:
            rewrite_artifact_paths(database, experiment_id)
        return True

    @translate_mlflow_errors
    def check(self, tags: dict[str, str], replaced: list[dict[str, str]]) -> None:
        """Check before a run that the record can be kept here: sign in, schema, name, artifacts.

        Args:
            tags: hashes that are known before the allocation is drawn.
            replaced: as for :meth:`register`.

        Raises:
            ValueError: the message says what to do.
        """
        database = self.uri.database
        if database is not None and not database.exists():
            return
        if self.attach() and not self.is_replaced(tags, replaced):
            self.check_hashes(tags)
        self.store.check_artifacts(self.experiment_id)

    @staticmethod
    def text(value: dict[str, str]) -> str:
        """Write a mapping as the text of a tag."""
        return json.dumps(value, sort_keys=True)

    @translate_mlflow_errors
    def register(
        self,
        settings: Settings,
        allocation: list[Assignment],
        tags: dict[str, str],
        *,
        again: bool = False,
        replaced: list[dict[str, str]] | None = None,
    ) -> None:
        """Write settings and allocation once, before any unit starts; later calls find them.

        Args:
            settings: of the campaign or sweep.
            allocation: its table; not written for a sweep, which has none.
            tags: hashes that are committed, and versions.
            again: the campaign was registered before; a record that is created now gets a tag that
                says that an earlier one was lost.
            replaced: hashes under which the folder was registered before it was begun anew.

        Raises:
            ValueError: the experiment holds another campaign, a sweep or another version.
        """
        if self.attach():
            if not self.is_replaced(tags, replaced or []):
                self.check_hashes(tags)
                self.write_settings(settings, allocation)
                return
            self.store.client.delete_run(self.parent_id)  # MLflow keeps it, marked as deleted
        other = SWEEP if self.kind.randomised else TRIAL
        if self.experiment_id and self.store.parents(self.experiment_id, other.parent):
            raise ValueError(
                f"the MLflow experiment {self.name!r} holds a {other.parent}, this is a "
                f"{self.kind.parent}; give it another name"
            )
        client, database = self.store.client, self.uri.database
        if not self.experiment_id:
            place = None if database is None else schema.artifacts_of(database).as_uri()
            self.experiment_id = client.create_experiment(self.name, artifact_location=place)
        run = client.create_run(self.experiment_id, run_name=f"{self.kind.parent} {self.name}")
        self.parent_id = run.info.run_id
        self.write_settings(settings, allocation)
        lost = {schema.REGISTERED_AGAIN: str(int(time.time()))} if again else {}
        version = {schema.RECORD_VERSION_TAG: schema.RECORD_VERSION}
        complete = {schema.KIND_TAG: self.kind.parent}  # last: a run with it is complete
        every = {"campaign": self.name} | self.kind.tags() | lost | tags | version | complete
        for name, value in every.items():
            client.set_tag(self.parent_id, name, value)

    def write_settings(self, settings: Settings, allocation: list[Assignment]) -> None:
        """Write settings and allocation as artifacts, if they are not there or were altered."""
        expected = {schema.PROTOCOL_FILE: canonical_json(settings.canonical())}
        if self.kind.randomised:
            expected[schema.ALLOCATION_FILE] = to_csv(allocation).encode()
        self.store.write_changed(self.parent_id, expected, self.store.artifacts(self.parent_id))

    def is_replaced(self, tags: dict[str, str], replaced: list[dict[str, str]]) -> bool:
        """Tell whether the record is of a campaign that was begun anew before its first unit."""
        recorded = self.tags()

        def holds(hashes: dict[str, str]) -> bool:
            names = [name for name in hashes if name.endswith("_sha256")]
            return bool(names) and all(recorded.get(name) == hashes[name] for name in names)

        return not holds(tags) and any(map(holds, replaced)) and not self.runs()

    @translate_mlflow_errors
    def tags(self) -> dict[str, str]:
        """Read the tags of the parent run."""
        return dict(self.store.client.get_run(self.parent_id).data.tags)

    def check_hashes(self, tags: dict[str, str]) -> None:
        """Refuse a record that was committed to other hashes.

        Raises:
            ValueError: the message names the hash.
        """
        recorded = self.tags()
        for name, value in tags.items():
            if name.endswith("_sha256") and recorded.get(name) != value:
                raise ValueError(
                    f"the MLflow experiment {self.name!r} holds a {self.kind.parent} with another "
                    f"{name} ({recorded.get(name)}); give this one another name"
                )

    @translate_mlflow_errors
    def write_assets(self, assets: list[dict[str, Any]]) -> None:
        """Record the evaluation models and priors of every block."""
        self.store.write_text(self.parent_id, assets_text(assets), schema.ASSETS_FILE)

    def has_assets(self, assets: list[dict[str, Any]]) -> bool:
        """Tell whether exactly these evaluation models and priors are recorded."""
        if not self.store.has_artifact(self.parent_id, schema.ASSETS_FILE):
            return False
        return self.store.read_text(self.parent_id, schema.ASSETS_FILE) == assets_text(assets)

    def runs(self) -> list[Any]:
        """Return the runs of the units, as MLflow's ``Run``; the analysis reads the same."""
        return self.store.children(self.experiment_id, self.parent_id, self.kind.child)

    def units(self) -> dict[str, Any]:
        """Return MLflow's ``Run`` of every unit whose run is complete, by unit id."""
        return {
            run.data.tags.get("unit_id", ""): run
            for run in self.runs()
            if run.info.status in COMPLETE
        }

    @translate_mlflow_errors
    def registered(self) -> tuple[dict[str, str], str]:
        """Read what was registered before the first unit: the parent's tags, the allocation CSV."""
        return self.tags(), self.store.read_text(self.parent_id, schema.ALLOCATION_FILE)

    @translate_mlflow_errors
    def write_unit(
        self,
        tags: dict[str, str],
        outcome: dict[str, Any] | None,
        pictures: dict[str, Any],
        options: dict[str, float] | None = None,
    ) -> None:
        """Write one unit, unless it is recorded as it ended.

        Args:
            tags: those of ``schema.UNIT_TAGS``.
            outcome: of ``atat_ray.unit.run_unit``; None for a unit that failed.
            pictures: uint8 arrays (H, W) or (H, W, 3) by inversion attack.
            options: of this unit beside those of its arm, written as MLflow's parameters.
        """
        artifacts = {} if outcome is None else artifacts_of(outcome, pictures)
        if self.has_unit(tags, outcome, artifacts):
            return
        client = self.store.client
        run_id = client.create_run(
            self.experiment_id,
            run_name=tags["unit_id"],
            tags={
                PARENT_TAG: self.parent_id,
                schema.KIND_TAG: self.kind.child,
                "campaign": self.name,
                **self.kind.tags(),
                **tags,
            },
        ).info.run_id
        self.log_options(run_id, options or {})
        if outcome is not None:
            self.log_metrics(run_id, outcome)
        for path, content in artifacts.items():
            self.store.write_bytes(run_id, content, path)
        failed = tags["status"] == schema.FAILED
        client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def has_unit(
        self, tags: dict[str, str], outcome: dict[str, Any] | None, artifacts: dict[str, bytes]
    ) -> bool:
        """Tell whether a unit is recorded as it ended; delete other runs of it.

        Artifacts that are missing in its run, or were altered, are written again.
        """
        query = f"tags.`{PARENT_TAG}` = '{self.parent_id}' and tags.unit_id = "
        found = False
        for run in self.store.search(self.experiment_id, f"{query}'{tags['unit_id']}'"):
            if run.info.status in COMPLETE and is_recorded(run, tags, outcome):
                found = True
                for path in altered(self.store, run, artifacts):
                    self.store.write_bytes(run.info.run_id, artifacts[path], path)
            else:
                self.store.client.delete_run(run.info.run_id)
        return found

    def log_options(self, run_id: str, options: dict[str, float]) -> None:
        """Write options of a unit as MLflow's parameters."""
        from mlflow.entities import Param

        if options:
            params = [Param(name, repr(value)) for name, value in options.items()]
            self.store.client.log_batch(run_id, params=params)

    def log_metrics(self, run_id: str, outcome: dict[str, Any]) -> None:
        """Write the metrics of a finished unit."""
        metrics = metrics_of(outcome)
        for start in range(0, len(metrics), BATCH):
            self.store.client.log_batch(run_id, metrics=metrics[start : start + BATCH])

    @translate_mlflow_errors
    def close(self, *, nonce: str | None) -> None:
        """Set the status of the parent run.

        Args:
            nonce: None while units are pending; at the end, what the allocation was drawn from,
                which is revealed, or empty where nothing was allocated.
        """
        if nonce is None:
            self.store.client.update_run(self.parent_id, status="RUNNING")
            return
        if nonce:
            self.store.client.set_tag(self.parent_id, "nonce", nonce)
        self.store.client.set_terminated(self.parent_id, "FINISHED")
