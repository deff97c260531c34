"""Check a campaign against its protocol: who should have got which arm, and who did."""

import sys
from dataclasses import dataclass
from itertools import zip_longest
from math import isfinite
from typing import Any

from analysis import schema
from analysis.record.store import COMPLETE
from trials import allocation
from trials.campaign.campaign import Campaign
from trials.tracking.record import MlflowRecord, classes_of, metrics_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was compared, and where it differs, in words."""

    what: str
    problems: list[str]


def verify(campaign: Campaign) -> list[Check]:
    """Recompute the allocation of a campaign and compare all that was written down with it.

    Raises:
        ValueError: the record cannot be read.
    """
    drawn = allocation.draw(campaign.settings, campaign.nonce)
    promised = campaign.settings.nonce == "secret" or campaign.nonce == str(campaign.settings.seed)
    checks = [
        Check(
            what="the nonce is what the protocol says",
            problems=[] if promised else [f"the nonce is {campaign.nonce}, not the seed"],
        ),
        Check(
            what=f"allocation.csv is what protocol and nonce draw ({len(drawn)} units)",
            problems=allocation.differences(campaign.table, drawn),
        ),
        Check(
            what="the folder has the hashes that were committed before the first unit",
            problems=campaign.broken_commitments(),
        ),
        Check(
            what="every finished unit was trained as its drawn arm says",
            problems=trained_otherwise(campaign, drawn),
        ),
    ]
    return [*checks, *verify_record(campaign, drawn)]


def compare(computed: dict[str, str], stored: dict[str, str]) -> list[str]:
    """Name the hashes that differ."""
    return [
        f"{name} is {value}, the record was committed to {stored.get(name)}"
        for name, value in computed.items()
        if stored.get(name) != value
    ]


def trained_otherwise(campaign: Campaign, drawn: list[allocation.Assignment]) -> list[str]:
    """Name units whose outcome is of another specification than the drawn arm's."""
    return [
        f"unit {row.unit_id} has an outcome, but not of arm {row.arm} under this protocol"
        for row in drawn
        if (campaign.unit_folder(row.unit_id) / "outcome.json").exists()
        and campaign.outcome(row) is None
    ]


def verify_record(campaign: Campaign, drawn: list[allocation.Assignment]) -> list[Check]:
    """Compare the record in MLflow with what was drawn and with the folders of the units."""
    record = MlflowRecord(campaign.tracking_uri, campaign.settings.name)
    if not record.attach():
        return [Check(what="the record", problems=[f"there is none at {campaign.tracking_uri}"])]
    tags, table = record.registered()
    # Before the folders are read: a unit that ends meanwhile is not recorded yet.
    runs = sorted(record.runs(), key=unit_of)
    whole = [run for run in runs if run.info.status in COMPLETE]
    recorded = {unit_of(run) for run in whole}
    rows = {row.unit_id: row for row in drawn}
    states = {row.unit_id: campaign.status(row) for row in drawn}
    pairs = [(rows[unit_of(run)], run) for run in whole if unit_of(run) in rows]
    return [
        Check(
            what="every unit that has ended is in the record",
            problems=[
                f"unit {unit_id} is {status} in its folder and not recorded yet"
                for unit_id, status in states.items()
                if status != schema.PENDING and unit_id not in recorded
            ],
        ),
        Check(
            what=f"each of the {len(recorded)} recorded units was drawn and has one run",
            problems=[*strangers(runs, rows), *repeated(runs)],
        ),
        Check(
            what="the recorded units have the blocks and arms that were drawn",
            problems=[words for row, run in pairs for words in placed_otherwise(row, run)],
        ),
        Check(
            what="the recorded units ended as in their folders",
            problems=[words for row, run in pairs for words in ended_otherwise(campaign, row, run)],
        ),
        Check(
            what="the recorded outcomes are those in the folders of the units",
            problems=[
                words
                for row, run in pairs
                if (outcome := campaign.outcome(row)) is not None
                for words in recorded_otherwise(record, run, outcome)
            ],
        ),
        Check(
            what="protocol, nonce and allocation have the hashes that the record was committed to",
            problems=compare(campaign.hashes(), tags),
        ),
        Check(
            what="the record's allocation is what protocol and nonce draw",
            problems=allocation.differences(allocation.from_csv(table), drawn),
        ),
    ]


def unit_of(run: Any) -> str:
    """Tell which unit a run says that it is of."""
    return run.data.tags.get("unit_id", "")


def strangers(runs: list[Any], rows: dict[str, allocation.Assignment]) -> list[str]:
    """Name the units that were recorded and never drawn."""
    unknown = {unit_of(run) for run in runs if unit_of(run) not in rows}
    return [f"unit {unit_id} is recorded, and was never drawn" for unit_id in sorted(unknown)]


def repeated(runs: list[Any]) -> list[str]:
    """Name the units that have more than one run, with the runs."""
    runs_of: dict[str, list[str]] = {}
    for run in runs:
        runs_of.setdefault(unit_of(run), []).append(run.info.run_id)
    return [
        f"unit {unit_id} has {len(ids)} runs in the record: {', '.join(ids)}"
        for unit_id, ids in runs_of.items()
        if len(ids) > 1
    ]


def placed_otherwise(row: allocation.Assignment, run: Any) -> list[str]:
    """Name the block and the arm of a unit that the record has otherwise."""
    return [
        f"unit {row.unit_id}: {name} is recorded as {run.data.tags.get(name)}, drawn was {value}"
        for name, value in (("block", row.stratum), ("arm", row.arm))
        if run.data.tags.get(name) != value
    ]


def ended_otherwise(campaign: Campaign, row: allocation.Assignment, run: Any) -> list[str]:
    """Say that the record ends a unit otherwise than its folder.

    The failure of a unit that runs again stays recorded until that ends. An outcome of another arm
    is named by :func:`trained_otherwise`.
    """
    recorded, status = run.data.tags.get("status"), campaign.status(row)
    if status == schema.PENDING:
        again = recorded == schema.FAILED and campaign.failed_before(row.unit_id)
        if again or (campaign.unit_folder(row.unit_id) / "outcome.json").exists():
            return []
    if recorded == status:
        return []
    return [f"unit {row.unit_id}: status is recorded as {recorded}, its folder has {status}"]


def recorded_otherwise(record: MlflowRecord, run: Any, outcome: dict[str, Any]) -> list[str]:
    """Name the outcomes of a unit that the record has otherwise, those by class included."""
    unit_id, metrics = unit_of(run), run.data.metrics
    if run.data.tags.get("status") != schema.FINISHED:
        return []  # there are none, and that is said of its status
    last = {metric.key: metric.value for metric in metrics_of(outcome)}  # of a curve, its last
    differing = [
        f"unit {unit_id}: {name} is recorded as {metrics.get(name, 'nothing')}, "
        f"its folder has {last.get(name, 'nothing')}"
        for name in {**last, **metrics}
        if not name.startswith(schema.SECONDS_PREFIX)  # a unit that is made again takes its time
        and not same(metrics.get(name), last.get(name))
    ]
    recorded, kept = record.classes(run.info.run_id).splitlines(), classes_of(outcome).splitlines()
    rows = enumerate(zip_longest(recorded, kept, fillvalue="nothing"))
    first = next(((number, *pair) for number, pair in rows if pair[0] != pair[1]), None)
    if first is not None:
        number, there, here = first
        differing.append(
            f"unit {unit_id}: line {number + 1} of {schema.CLASSES_FILE} is recorded as {there}; "
            f"its folder has {here}"
        )
    return differing


def same(recorded: float | None, value: float | None) -> bool:
    """Tell whether a value is as recorded; of what is no finite number only that it is none.

    MLflow keeps an infinite value as the largest that there is.
    """
    if recorded is None or value is None or isfinite(value):
        return recorded == value
    return not isfinite(recorded) or abs(recorded) == sys.float_info.max
