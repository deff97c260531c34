"""Read the record of a campaign from MLflow into tables; nothing is written."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis import schema
from analysis.record.json_text import parse_json
from analysis.record.store import COMPLETE, Store

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True, kw_only=True)
class Record:
    """Record of one campaign.

    ``units`` has one row for each unit of the allocation, in the order of the allocation.
    """

    campaign: str
    protocol: dict[str, Any]
    allocation: pd.DataFrame  # schema.ALLOCATION_COLUMNS
    units: pd.DataFrame  # allocation, status, reason, start_order, node, hashes, outcomes
    classes: pd.DataFrame  # unit_id, block, arm, schema.CLASS_COLUMNS
    assets: list[dict[str, Any]]
    tags: dict[str, str]  # of the parent run: schema.CAMPAIGN_TAGS, looks and verdicts on claims
    read_artifact: Callable[[str, str], bytes]  # (unit_id, path in the unit's run) -> content
    parent_run: str = ""  # MLflow id

    def picture(self, unit_id: str, inversion: str) -> bytes:
        """Return the PNG of a unit's reconstructions over their nearest training images."""
        return self.read_artifact(unit_id, f"{schema.PICTURES_FOLDER}/{inversion}.png")


def load_record(store: Store | str, campaign: str) -> Record:
    """Read the protocol, tables and artifacts of a campaign.

    Args:
        store: MLflow store, or its address: ``sqlite:///FILE`` or ``http://HOST:PORT``.
        campaign: name of the MLflow experiment.

    Raises:
        ValueError: the store cannot be reached, holds no such campaign, or the record has another
            version, was altered, or contradicts its allocation.
    """
    store = Store(store) if isinstance(store, str) else store
    parent = store.parent(campaign, schema.KIND_CAMPAIGN)
    run_id = parent.info.run_id
    allocation_csv = store.read_bytes(run_id, schema.ALLOCATION_FILE)
    protocol_json = store.read_bytes(run_id, schema.PROTOCOL_FILE)
    tags = _campaign_tags(parent.data.tags)
    _check_hash(schema.ALLOCATION_FILE, allocation_csv, tags["allocation_sha256"])
    _check_hash(schema.PROTOCOL_FILE, protocol_json, tags["protocol_sha256"])

    allocation = pd.read_csv(io.BytesIO(allocation_csv), dtype=str)
    children = store.children(parent.info.experiment_id, run_id, schema.KIND_UNIT)
    runs = _runs_by_unit(children, allocation)
    units = _unit_table(allocation, runs)

    def read_artifact(unit_id: str, path: str) -> bytes:
        run = runs[unit_id].info
        return store.read_bytes(run.run_id, path, artifact_uri=run.artifact_uri)

    return Record(
        campaign=campaign,
        protocol=parse_json(protocol_json, dict, schema.PROTOCOL_FILE),
        allocation=allocation,
        units=units,
        classes=_class_table(units, read_artifact),
        assets=_assets(store, run_id),
        tags=tags,
        read_artifact=read_artifact,
        parent_run=run_id,
    )


def _campaign_tags(tags: dict[str, str]) -> dict[str, str]:
    of_reports = {
        name: text
        for name, text in tags.items()
        if name.startswith((schema.LOOK_PREFIX, schema.CLAIM_PREFIX))
    }
    return {name: tags.get(name, "") for name in schema.CAMPAIGN_TAGS} | of_reports


def _assets(store: Store, run_id: str) -> list[dict[str, Any]]:
    """Read the evaluation models and priors; a campaign that has just begun has none yet."""
    if not store.has_artifact(run_id, schema.ASSETS_FILE):
        return []
    content = store.read_bytes(run_id, schema.ASSETS_FILE)
    assets = parse_json(content, list, schema.ASSETS_FILE)
    if not all(isinstance(asset, dict) for asset in assets):
        raise ValueError(f"{schema.ASSETS_FILE} must list JSON objects; the record was altered")
    return assets


def _check_hash(name: str, content: bytes, registered: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != registered:
        raise ValueError(
            f"{name} is not the one that was registered: sha256 {found[:12]}..., "
            f"the campaign's tag says {registered[:12] or 'nothing'}; the record was altered"
        )


def _runs_by_unit(children: list[Run], allocation: pd.DataFrame) -> dict[str, Run]:
    """Map unit_id to its complete run; refuse a second run, and one that was not allocated."""
    allocated = {u: (b, a) for u, b, a in allocation.itertuples(index=False, name=None)}
    if len(allocated) != len(allocation):
        twice = allocation["unit_id"][allocation["unit_id"].duplicated()]
        raise ValueError(f"{schema.ALLOCATION_FILE} names units twice: {', '.join(twice)}")
    runs: dict[str, Run] = {}
    for run in children:
        tags = run.data.tags
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
    return {unit_id: run for unit_id, run in runs.items() if run.info.status in COMPLETE}


def _unit_table(allocation: pd.DataFrame, runs: dict[str, Run]) -> pd.DataFrame:
    """Build one row for each allocated unit; a unit without a complete run is pending."""
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
    table["start_order"] = pd.array([_order(v) for v in table["start_order"]], dtype="Int64")
    first = [*schema.ALLOCATION_COLUMNS, *tag_names]
    return table.loc[:, first + sorted(c for c in table.columns if c not in first)]


def _order(text: str) -> Any:
    """Read the tag start_order; missing if it is empty."""
    if not text:
        return pd.NA
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise ValueError(
            f"the tag start_order of a unit must be a whole number, the record says {text[:80]!r}; "
            "the record was altered: `atat verify` lists what differs"
        )
    return int(text)


def _class_table(units: pd.DataFrame, read: Callable[[str, str], bytes]) -> pd.DataFrame:
    """Stack the class tables of finished units; add the columns unit_id, block and arm."""
    columns = [*schema.ALLOCATION_COLUMNS, *schema.CLASS_COLUMNS]
    finished = units.loc[units["status"] == schema.FINISHED]
    texts: dict[str, list[str]] = {}  # rows by header: one parser call a header, not a unit
    for i, unit_id in enumerate(finished["unit_id"]):
        text = read(unit_id, schema.CLASSES_FILE).decode("utf-8", errors="replace")
        header, _, body = text.partition("\n")
        rows = (f"{i},{row}" for row in body.splitlines() if row)
        texts.setdefault(header.strip(), []).extend(rows)
    if not any(texts.values()):
        return pd.DataFrame(columns=columns)
    parts = [_class_rows(header, rows) for header, rows in texts.items()]
    table = pd.concat(parts, ignore_index=True).sort_values("row", kind="stable")
    keys = finished[list(schema.ALLOCATION_COLUMNS)].iloc[table["row"]].reset_index(drop=True)
    return pd.concat([keys, table.reset_index(drop=True)], axis=1).loc[:, columns]


def _class_rows(header: str, rows: list[str]) -> pd.DataFrame:
    """Parse the rows of class tables with one header; refuse what is no class table."""
    try:
        table = pd.read_csv(
            io.StringIO("\n".join([f"row,{header}", *rows])),
            dtype={"inversion": str, "class": str},  # a class may be called 007
            na_filter=False,  # or NA
        )
        counts = table.loc[:, list(schema.CLASS_COLUMNS[2:])]
        if not all(pd.api.types.is_numeric_dtype(kind) for kind in counts.dtypes):
            raise ValueError("a number is expected in every column but the first two")
    except (ValueError, KeyError) as error:
        detail = " ".join(str(error).split())
        raise ValueError(
            f"{schema.CLASSES_FILE} of a unit is not what was written ({detail}); `atat verify` "
            "names the unit, `atat resume` writes the file again from the folder of the unit"
        ) from error
    return table
