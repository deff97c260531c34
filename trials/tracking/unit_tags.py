"""Tags of a unit's run in MLflow: where it belongs, how it ended, what it ran on."""

import json
from typing import Any

from analysis import schema
from atat_ray.unit import UnitSpec
from trials.allocation import Assignment


def content_tags(outcome: dict[str, Any] | None) -> dict[str, str]:
    """Write the hashes of what a unit was measured with; empty for a unit that failed."""
    if outcome is None:
        return {"data_sha256": "", "evaluation_sha256": "", "prior_sha256": ""}
    found = outcome["contents"]
    return {
        "data_sha256": found["data"],
        "evaluation_sha256": found["evaluation"],
        "prior_sha256": ",".join(found["priors"].values()),
    }


def unit_tags(
    row: Assignment,
    spec: UnitSpec,
    outcome: dict[str, Any] | None,
    *,
    status: str,
    reason: str,
    start: dict[str, Any],
    place: dict[str, Any],
    processes: list[dict[str, str]],
    times_lost: int,
    failed_before: list[dict[str, Any]],
    git_commit: str,
) -> dict[str, str]:
    """Write the tags of a unit that has ended; their names are ``schema.UNIT_TAGS``.

    Args:
        row: of the allocation.
        spec: of the unit.
        outcome: of a finished unit, else None.
        status: how the unit ended.
        reason: why it has no outcome.
        start: the note ``{order, time}`` of its first start.
        place: the note ``{node, device}``.
        processes: what its processes computed on.
        times_lost: how often its process was lost.
        failed_before: notes ``{reason}`` of failures after which it was retried.
        git_commit: of this source tree.
    """
    tags = {
        "unit_id": row.unit_id,
        "block": row.stratum,
        "arm": row.arm,
        "status": status,
        "reason": "" if outcome else reason,
        "start_order": str(start.get("order", "")),
        "node": place.get("node", ""),
        "device": place.get("device", ""),
        "times_lost": str(times_lost),
        "failed_before": "; ".join(failure.get("reason", "") for failure in failed_before),
        "git_commit": git_commit,
        **schema.join_processes(processes),
        **content_tags(outcome),
    }
    if outcome is not None and schema.SELECTED_TAG in outcome:
        tags[schema.SELECTED_TAG] = json.dumps(outcome[schema.SELECTED_TAG])
    return tags
