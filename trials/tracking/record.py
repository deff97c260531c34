"""The record in MLflow; nothing else writes there, but for the report that is logged to it.

One experiment a campaign, one parent run, one child run a unit, found by its ``unit_id`` and
created if absent. A child run that was being written when the process died is written anew, so
that a unit has one run and every value in it stands once.
"""

import json
import logging
import os
import time
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis import schema
from trials.allocation import Assignment, to_csv
from trials.config.protocol import Settings, canonical_json
from trials.tracking.connection import check_answers, reaching
from trials.tracking.relocate import follow

if TYPE_CHECKING:
    from mlflow import MlflowClient

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# A campaign tries again by itself and looks first at what came through; MLflow would send a request
# that timed out a second time, and a unit would have two runs.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

WHOLE = ("FINISHED", "FAILED")  # MLflow status of a run that is written to its end
END = ("status", "reason", "failed_before")  # tags that say how a unit ended
BATCH = 1000  # what MLflow takes in one log_batch


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """What is recorded: the kinds of its parent run and child runs, and tags that all of them have.

    Only a trial has an allocation.
    """

    parent: str
    child: str
    marks: dict[str, str] = field(default_factory=dict)


TRIAL = Kind(parent=schema.KIND_CAMPAIGN, child=schema.KIND_UNIT)
SWEEP = Kind(
    parent=schema.KIND_SWEEP,
    child=schema.KIND_POINT,
    marks={schema.RANDOMISED_TAG: schema.NOT_RANDOMISED},
)


class Record:
    """The record of one campaign or sweep.

    Args:
        uri: of the MLflow tracking store.
        campaign: name of the experiment.
        kind: of what is recorded.
    """

    def __init__(self, uri: str, campaign: str, kind: Kind = TRIAL) -> None:
        check_answers(uri)
        self.kind = kind
        self.uri = uri
        self.campaign = campaign
        self.experiment_id = ""
        self.parent_id = ""

    @cached_property
    def client(self) -> "MlflowClient":
        """Open the store; where it is a file that is not there, MLflow makes it."""
        from mlflow import MlflowClient

        for name in ("alembic", "mlflow"):  # what they say of each database and run
            logging.getLogger(name).setLevel(logging.ERROR)
        return MlflowClient(tracking_uri=self.uri)

    @reaching
    def attach(self) -> bool:
        """Find the campaign's experiment and parent run; tell whether they are there.

        A record that was moved or copied with its campaign's folder has its paths corrected.
        """
        path = Path(self.uri.removeprefix("sqlite:///"))
        if self.uri.startswith("sqlite:///") and not path.exists():
            return False  # MLflow would make it
        experiment = self.client.get_experiment_by_name(self.campaign)
        if experiment is None:
            return False
        self.experiment_id = experiment.experiment_id
        parents = self.find(f"tags.`{schema.KIND_TAG}` = '{self.kind.parent}'")
        self.parent_id = parents[0].info.run_id if parents else ""
        if parents:
            follow(self.uri, parents[0])
        return bool(self.parent_id)

    @staticmethod
    def text(value: dict[str, str]) -> str:
        """Write a mapping as the text of a tag."""
        return json.dumps(value, sort_keys=True)

    def find(self, filter_string: str) -> list[Any]:
        """Find runs of this experiment that are not deleted."""
        found, token = [], None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], filter_string, max_results=BATCH, page_token=token
            )
            found.extend(page)
            token = page.token
            if not token:
                return found

    @reaching
    def register(
        self,
        protocol: Settings,
        allocation: list[Assignment],
        tags: dict[str, str],
        artifacts: Path | None,
        *,
        again: bool = False,
    ) -> None:
        """Write protocol and allocation before any unit starts, once; find them afterwards.

        Args:
            protocol: of the campaign or sweep.
            allocation: its table; a sweep has none, and none is written.
            tags: hashes that are committed, and what it runs on.
            artifacts: where a new experiment keeps files; the store's own place if None.
            again: the campaign was registered before; a record made now says that one was lost.

        Raises:
            ValueError: the experiment holds a campaign of another protocol, nonce or allocation.
        """
        if self.attach():
            recorded = self.client.get_run(self.parent_id).data.tags
            for name, value in tags.items():
                if name.endswith("_sha256") and recorded.get(name) != value:
                    raise ValueError(
                        f"the MLflow experiment {self.campaign!r} holds a campaign with another "
                        f"{name} ({recorded.get(name)}); give the protocol another name"
                    )
            return
        other = SWEEP if self.kind is TRIAL else TRIAL
        if self.experiment_id and self.find(f"tags.`{schema.KIND_TAG}` = '{other.parent}'"):
            raise ValueError(
                f"the MLflow experiment {self.campaign!r} holds a {other.parent}, this is a "
                f"{self.kind.parent}; give it another name"
            )
        if not self.experiment_id:
            self.experiment_id = self.client.create_experiment(
                self.campaign, artifact_location=artifacts.as_uri() if artifacts else None
            )
        run = self.client.create_run(
            self.experiment_id, run_name=f"{self.kind.parent} {self.campaign}"
        )
        self.parent_id = run.info.run_id
        log = partial(self.client.log_text, self.parent_id)
        log(canonical_json(protocol.canonical()).decode(), schema.PROTOCOL_FILE)
        if self.kind is TRIAL:
            log(to_csv(allocation), schema.ALLOCATION_FILE)
        lost = {schema.REGISTERED_AGAIN: str(int(time.time()))} if again else {}
        marks = {"campaign": self.campaign} | self.kind.marks | lost
        whole = {schema.KIND_TAG: self.kind.parent}  # last: only then is it whole
        for name, value in (marks | tags | whole).items():
            self.client.set_tag(self.parent_id, name, value)

    @reaching
    def write_assets(self, assets: list[dict[str, Any]]) -> None:
        """Record the evaluation models and priors of every block."""
        self.client.log_text(self.parent_id, json.dumps(assets, indent=1), schema.ASSETS_FILE)

    @reaching
    def runs(self) -> list[Any]:
        """Read the runs of the units, as MLflow's ``Run``; a unit should have one, and it be whole.

        They are those that the analysis reads.
        """
        kind = f"tags.`{schema.KIND_TAG}` = '{self.kind.child}'"
        return self.find(f"tags.`mlflow.parentRunId` = '{self.parent_id}' and {kind}")

    def units(self) -> dict[str, Any]:
        """Read every unit whose run is whole: MLflow's ``RunData``, with its tags and metrics."""
        runs = self.runs()
        return {r.data.tags.get("unit_id", ""): r.data for r in runs if r.info.status in WHOLE}

    @reaching
    def registered(self) -> tuple[dict[str, str], str]:
        """Read what was registered before the first unit: the parent's tags, the allocation CSV."""
        tags = self.client.get_run(self.parent_id).data.tags
        return dict(tags), self.text_of(self.parent_id, schema.ALLOCATION_FILE)

    @reaching
    def classes(self, run_id: str) -> str:
        """Read the class table of a unit's run, as CSV; empty if it has none."""
        there = schema.CLASSES_FILE in [file.path for file in self.client.list_artifacts(run_id)]
        return self.text_of(run_id, schema.CLASSES_FILE) if there else ""

    def text_of(self, run_id: str, name: str) -> str:
        """Read a file of a run."""
        with TemporaryDirectory() as folder:
            return Path(self.client.download_artifacts(run_id, name, folder)).read_text()

    @reaching
    def write_unit(
        self,
        tags: dict[str, str],
        outcome: dict[str, Any] | None,
        pictures: dict[str, Any],
        options: dict[str, float] | None = None,
    ) -> None:
        """Write one unit; a no-op where it is recorded as it ended.

        Args:
            tags: those of ``schema.UNIT_TAGS``.
            outcome: of ``atat_ray.unit.run_unit``; None for a unit that failed.
            pictures: uint8 arrays (H, W) or (H, W, 3) by inversion attack.
            options: that the unit alone has, written as MLflow's parameters.
        """
        from mlflow.entities import Param

        query = f"tags.`mlflow.parentRunId` = '{self.parent_id}' and tags.unit_id = "
        there = False
        for run in self.find(f"{query}'{tags['unit_id']}'"):
            alike = all(run.data.tags.get(name, "") == tags.get(name, "") for name in END)
            if run.info.status in WHOLE and alike:
                there = True
            else:
                self.client.delete_run(run.info.run_id)
        if there:
            return
        run_id = self.client.create_run(
            self.experiment_id,
            run_name=tags["unit_id"],
            tags={
                "mlflow.parentRunId": self.parent_id,
                schema.KIND_TAG: self.kind.child,
                "campaign": self.campaign,
                **self.kind.marks,
                **tags,
            },
        ).info.run_id
        if options:
            params = [Param(name, repr(value)) for name, value in options.items()]
            self.client.log_batch(run_id, params=params)
        if outcome is None:
            failed = tags["status"] == schema.FAILED
            self.client.set_terminated(run_id, "FAILED" if failed else "FINISHED")
            return
        metrics = metrics_of(outcome)
        for start in range(0, len(metrics), BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + BATCH])
        self.client.log_text(run_id, classes_of(outcome), schema.CLASSES_FILE)
        for inversion, picture in pictures.items():
            name = f"{schema.PICTURES_FOLDER}/{inversion}.png"
            self.client.log_image(run_id, picture, artifact_file=name)
        self.client.set_terminated(run_id, "FINISHED")

    @reaching
    def close(self, *, nonce: str | None) -> None:
        """Mark the parent run: finished, with the nonce revealed if any, or going on if None."""
        if nonce is None:
            self.client.update_run(self.parent_id, status="RUNNING")
        else:
            if nonce:
                self.client.set_tag(self.parent_id, "nonce", nonce)
            self.client.set_terminated(self.parent_id, "FINISHED")


def classes_of(outcome: dict[str, Any]) -> str:
    """Write a unit's table of classes as CSV, with the columns of the schema."""
    return pd.DataFrame(outcome["classes"])[list(schema.CLASS_COLUMNS)].to_csv(index=False)


def metrics_of(outcome: dict[str, Any]) -> list[Any]:
    """Name a unit's outcomes and curves as the schema does."""
    from mlflow.entities import Metric

    values = {
        schema.CLEAN_ACC: outcome["clean_acc"],
        schema.TRAIN_ACC: outcome["train_acc"],
        schema.DIVERGED: float(outcome["diverged"]),
        **outcome["inversions"],
        **{schema.robust_column(float(e)): v for e, v in outcome["robust_acc"].items()},
        **{schema.SECONDS_PREFIX + stage: s for stage, s in outcome["seconds"].items()},
    }
    metrics = [Metric(name, value, 0, 0) for name, value in values.items()]
    for epoch, curves in enumerate(outcome["curves"]):
        metrics += [
            Metric(schema.EPOCH_PREFIX + name, value, 0, epoch) for name, value in curves.items()
        ]
    return metrics
