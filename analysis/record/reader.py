"""Read a campaign from MLflow into tables; nothing is written, not even a missing database."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pandas as pd

from analysis import schema
from analysis.record.address import check_address, check_place

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 1000
_PARENT_TAG = "mlflow.parentRunId"
_WHOLE = ("FINISHED", "FAILED")  # MLflow status of a run that is written to its end


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a campaign left behind. ``units`` has one row a unit of the allocation, in its order."""

    campaign: str
    protocol: dict[str, Any]
    allocation: pd.DataFrame  # schema.ALLOCATION_COLUMNS
    units: pd.DataFrame  # allocation + status, reason, start_order, node, hashes + outcomes
    classes: pd.DataFrame  # unit_id, block, arm + schema.CLASS_COLUMNS
    assets: list[dict[str, Any]]
    tags: dict[str, str]  # schema.CAMPAIGN_TAGS of the parent run, and its looks
    read_artifact: Callable[[str, str], bytes]  # (unit_id, path in the unit's run) -> content
    parent_run: str = ""  # MLflow id of the campaign's run

    def picture(self, unit_id: str, inversion: str) -> bytes:
        """Return the PNG of a unit's reconstructions over their nearest training images."""
        return self.read_artifact(unit_id, f"{schema.PICTURES_FOLDER}/{inversion}.png")


def load(tracking_uri: str, campaign: str) -> Record:
    """Read the campaign's runs, tables and artifacts from the MLflow at ``tracking_uri``."""
    check_address(tracking_uri)
    from mlflow import MlflowClient

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    client = MlflowClient(tracking_uri)
    experiment_id = find_experiment(client, tracking_uri, campaign)
    parent = _parent_run(client, experiment_id, campaign)
    check_place(tracking_uri, parent, campaign)
    allocation_csv = artifact(client, parent.info.run_id, schema.ALLOCATION_FILE)
    protocol_json = artifact(client, parent.info.run_id, schema.PROTOCOL_FILE)
    tags = {name: parent.data.tags.get(name, "") for name in schema.CAMPAIGN_TAGS}
    tags |= {k: v for k, v in parent.data.tags.items() if k.startswith(schema.LOOK_PREFIX)}
    _check_hash(schema.ALLOCATION_FILE, allocation_csv, tags["allocation_sha256"])
    _check_hash(schema.PROTOCOL_FILE, protocol_json, tags["protocol_sha256"])

    allocation = pd.read_csv(io.BytesIO(allocation_csv), dtype=str)
    runs = _runs_by_unit(client, experiment_id, parent.info.run_id, allocation)
    units = _unit_table(allocation, runs)

    def read_artifact(unit_id: str, path: str) -> bytes:
        return _run_artifact(client, runs[unit_id], path)

    return Record(
        campaign=campaign,
        protocol=json.loads(protocol_json),
        allocation=allocation,
        units=units,
        classes=_class_table(units, read_artifact),
        assets=_assets(client, parent.info.run_id),
        tags=tags,
        read_artifact=read_artifact,
        parent_run=parent.info.run_id,
    )


def find_experiment(client: MlflowClient, uri: str, campaign: str) -> str:
    experiment = client.get_experiment_by_name(campaign)
    if experiment is not None and experiment.lifecycle_stage == "active":
        return experiment.experiment_id
    known = sorted(e.name for e in client.search_experiments() if e.name != "Default")
    raise ValueError(
        f"no campaign {campaign!r} at {uri!r}; "
        + (f"known: {', '.join(known)}" if known else "no campaign is recorded there")
    )


def search(client: MlflowClient, experiment_id: str, kind: str) -> list[Run]:
    """Return the experiment's runs of one kind, page by page."""
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment_id],
            filter_string=f"tags.`{schema.KIND_TAG}` = '{kind}'",
            max_results=_PAGE,
            page_token=token,
        )
        runs.extend(page)
        token = page.token
        if not token:
            return runs


def _parent_run(client: MlflowClient, experiment_id: str, campaign: str) -> Run:
    parents = search(client, experiment_id, schema.KIND_CAMPAIGN)
    if len(parents) != 1:
        raise ValueError(
            f"experiment {campaign!r} must hold exactly one run tagged "
            f"{schema.KIND_TAG}={schema.KIND_CAMPAIGN}, found {len(parents)}; "
            "it is not a campaign of this platform, or two were recorded under one name"
        )
    return parents[0]


def _run_artifact(client: MlflowClient, run: Run, path: str) -> bytes:
    """Read an artifact; straight from the disk where the store keeps it there."""
    place = urlsplit(run.info.artifact_uri or "")
    if place.scheme in ("", "file"):
        local = Path(unquote(place.path)) / path
        if local.is_file():
            return local.read_bytes()
    return artifact(client, run.info.run_id, path)


def artifact(client: MlflowClient, run_id: str, path: str) -> bytes:
    from mlflow.exceptions import MlflowException

    with TemporaryDirectory() as folder:
        try:
            return Path(client.download_artifacts(run_id, path, folder)).read_bytes()
        except (MlflowException, OSError) as error:
            raise ValueError(f"run {run_id} has no readable artifact {path!r}: {error}") from error


def _assets(client: MlflowClient, run_id: str) -> list[dict[str, Any]]:
    """Read the evaluation models and priors; a campaign that has just begun has none yet."""
    if schema.ASSETS_FILE not in [f.path for f in client.list_artifacts(run_id)]:
        return []
    return json.loads(artifact(client, run_id, schema.ASSETS_FILE))


def _check_hash(name: str, content: bytes, registered: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != registered:
        raise ValueError(
            f"{name} is not the one that was registered: sha256 {found[:12]}..., "
            f"the campaign's tag says {registered[:12] or 'nothing'}; the record was altered"
        )


def _runs_by_unit(
    client: MlflowClient, experiment_id: str, parent_id: str, allocation: pd.DataFrame
) -> dict[str, Run]:
    """Map unit_id to its run, once that is whole; refuse second runs and units never allocated."""
    allocated = {u: (b, a) for u, b, a in allocation.itertuples(index=False, name=None)}
    if len(allocated) != len(allocation):
        twice = allocation["unit_id"][allocation["unit_id"].duplicated()]
        raise ValueError(f"{schema.ALLOCATION_FILE} names units twice: {', '.join(twice)}")
    runs: dict[str, Run] = {}
    for run in search(client, experiment_id, schema.KIND_UNIT):
        tags = run.data.tags
        if tags.get(_PARENT_TAG) != parent_id:
            continue
        unit_id = tags.get("unit_id", "")
        if unit_id not in allocated:
            raise ValueError(
                f"run {run.info.run_id} is of unit {unit_id!r}, which is not in the allocation "
                f"of {len(allocated)} units; remove the run or restore the allocation"
            )
        if unit_id in runs:
            raise ValueError(
                f"unit {unit_id!r} has two runs ({runs[unit_id].info.run_id}, {run.info.run_id}); "
                "delete the one that does not belong to the campaign"
            )
        if (tags.get("block"), tags.get("arm")) != allocated[unit_id]:
            raise ValueError(
                f"run {run.info.run_id} of unit {unit_id!r} says block {tags.get('block')!r}, arm "
                f"{tags.get('arm')!r}; the allocation says {allocated[unit_id]}"
            )
        runs[unit_id] = run
    return {unit_id: run for unit_id, run in runs.items() if run.info.status in _WHOLE}


def _unit_table(allocation: pd.DataFrame, runs: dict[str, Run]) -> pd.DataFrame:
    """Lay out one row a unit of the allocation; units without a run are pending."""
    tag_names = [t for t in schema.UNIT_TAGS if t not in ("campaign", *schema.ALLOCATION_COLUMNS)]
    rows: list[dict[str, Any]] = []
    for row in allocation.to_dict("records"):
        run = runs.get(row["unit_id"])
        tags = run.data.tags if run else {}
        metrics = run.data.metrics if run else {}
        outcomes = {k: v for k, v in metrics.items() if not k.startswith(schema.EPOCH_PREFIX)}
        rows.append({**row, **{t: tags.get(t, "") for t in tag_names}, **outcomes})
    table = pd.DataFrame(rows)
    table["status"] = table["status"].replace("", schema.PENDING)
    unknown = sorted(set(table["status"]) - set(schema.STATUSES))
    if unknown:
        raise ValueError(f"status must be one of {schema.STATUSES}, the record says {unknown}")
    order = [int(v) if v else pd.NA for v in table["start_order"]]
    table["start_order"] = pd.array(order, dtype="Int64")
    first = [*schema.ALLOCATION_COLUMNS, *tag_names]
    return table.loc[:, first + sorted(c for c in table.columns if c not in first)]


def _class_table(units: pd.DataFrame, read: Callable[[str, str], bytes]) -> pd.DataFrame:
    """Stack the class tables of the finished units under the columns unit_id, block, arm."""
    columns = [*schema.ALLOCATION_COLUMNS, *schema.CLASS_COLUMNS]
    finished = units.loc[units["status"] == schema.FINISHED]
    texts: dict[str, list[str]] = {}  # rows by header; one parser call for each, not for each unit
    for i, unit_id in enumerate(finished["unit_id"]):
        header, _, body = read(unit_id, schema.CLASSES_FILE).decode("utf-8").partition("\n")
        rows = (f"{i},{row}" for row in body.splitlines() if row)
        texts.setdefault(header.strip(), []).extend(rows)
    if not any(texts.values()):
        return pd.DataFrame(columns=columns)
    parts = [
        pd.read_csv(io.StringIO("\n".join([f"row,{header}", *rows])))
        for header, rows in texts.items()
    ]
    table = pd.concat(parts, ignore_index=True).sort_values("row", kind="stable")
    keys = finished[list(schema.ALLOCATION_COLUMNS)].iloc[table["row"]].reset_index(drop=True)
    return pd.concat([keys, table.reset_index(drop=True)], axis=1).loc[:, columns]
