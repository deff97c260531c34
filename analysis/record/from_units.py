"""Build a record from a table of units, for a notebook or an example without MLflow."""

from __future__ import annotations

import json
from collections import Counter
from hashlib import sha256
from typing import Any

import pandas as pd

from analysis import schema
from analysis.record.reader import Record

_TEXT_TAGS = ("reason", "node", "failed_before", "data_sha256", "evaluation_sha256", "prior_sha256")


def record_from_units(
    units: pd.DataFrame,
    *,
    outcome: str,
    arm: str,
    against: str,
    campaign: str = "units",
    classes: pd.DataFrame | None = None,
    **protocol: Any,
) -> Record:
    """Build the record of a finished trial from its units.

    Args:
        units: one row a unit with the columns ``unit_id``, ``block``, ``arm`` and the outcomes
            (fractions in [0, 1]); missing columns of a record are filled in as for units that
            have finished.
        outcome: column of the primary outcome.
        arm: of the primary contrast.
        against: reference of the primary contrast.
        campaign: name of the record.
        classes: class table with the columns ``unit_id``, ``block``, ``arm`` and
            ``schema.CLASS_COLUMNS``; none if None.
        protocol: further keys of the protocol, or others in place of its defaults.

    Returns:
        A record for :func:`analysis.pipeline.analyse` and :func:`analysis.report.write_report`.
        It has no pictures.
    """
    units = units.reset_index(drop=True)
    allocation = units.loc[:, list(schema.ALLOCATION_COLUMNS)].astype(str)
    contrasts = {"primary": {"arm": arm, "against": against}}
    complete = {
        "name": campaign,
        "seed": 0,
        "outcome": outcome,
        "alpha": 0.05,
        "contrasts": contrasts,
        **_design(allocation),
        **protocol,
    }
    columns = [*schema.ALLOCATION_COLUMNS, *schema.CLASS_COLUMNS]
    tags = dict.fromkeys(schema.CAMPAIGN_TAGS, "") | {
        "campaign": campaign,
        "protocol_sha256": sha256(json.dumps(complete, sort_keys=True).encode()).hexdigest(),
        "allocation_sha256": sha256(allocation.to_csv(index=False).encode()).hexdigest(),
    }
    return Record(
        campaign=campaign,
        protocol=complete,
        allocation=allocation,
        units=_fill_in(units),
        classes=pd.DataFrame(columns=columns) if classes is None else classes,
        assets=[],
        tags=tags,
        read_artifact=_no_artifact,
    )


def _design(allocation: pd.DataFrame) -> dict[str, Any]:
    """Return the blocks, arms and numbers of units that the allocation shows."""
    cells = Counter(zip(allocation["block"], allocation["arm"], strict=True))
    blocks, arms = (list(dict.fromkeys(allocation[key])) for key in ("block", "arm"))
    return {
        "blocks": {block: {} for block in blocks},
        "units_per_arm": {arm: max(cells[block, arm] for block in blocks) for arm in arms},
        "arms": {arm: {"defense": arm} for arm in arms},
    }


def _fill_in(units: pd.DataFrame) -> pd.DataFrame:
    """Add the columns of a record that are missing, as for units that have finished."""
    defaults: dict[str, Any] = dict.fromkeys(_TEXT_TAGS, "") | {
        "status": schema.FINISHED,
        "start_order": pd.array(range(1, len(units) + 1), dtype="Int64"),
    }
    return units.assign(**{name: v for name, v in defaults.items() if name not in units})


def _no_artifact(unit_id: str, path: str) -> bytes:
    raise ValueError(f"unit {unit_id} has no artifact {path!r}: its record was built from a table")
