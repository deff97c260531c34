"""Check a campaign against its protocol: who should have got which arm, and who did."""

from dataclasses import dataclass
from math import isfinite
from typing import Any

from trials import allocation
from trials.campaign import Campaign
from trials.record import Record, metrics_of


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
    drawn = allocation.draw(campaign.protocol, campaign.nonce)
    promised = campaign.protocol.nonce == "secret" or campaign.nonce == str(campaign.protocol.seed)
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


def recorded_otherwise(
    unit_id: str, outcome: dict[str, Any], metrics: dict[str, float]
) -> list[str]:
    """Name the outcomes of a unit that the record has otherwise."""
    last = {metric.key: metric.value for metric in metrics_of(outcome)}  # of a curve, its last
    return [
        f"unit {unit_id}: {name} is recorded as {metrics.get(name)}, its folder has {value}"
        for name, value in last.items()
        if metrics.get(name) != value and isfinite(value)
    ]


def verify_record(campaign: Campaign, drawn: list[allocation.Assignment]) -> list[Check]:
    """Compare the record in MLflow with what was drawn."""
    record = Record(campaign.tracking_uri, campaign.protocol.name)
    if not record.attach():
        return [Check(what="the record", problems=[f"there is none at {campaign.tracking_uri}"])]
    tags, table = record.registered()
    arms = {row.unit_id: row.arm for row in drawn}
    units = record.units()
    outcomes = {row.unit_id: campaign.outcome(row) for row in drawn}
    outcomes = {unit_id: outcome for unit_id, outcome in outcomes.items() if outcome is not None}
    return [
        Check(
            what="every finished unit is in the record",
            problems=[f"unit {unit_id} is not" for unit_id in outcomes if unit_id not in units],
        ),
        Check(
            what="the recorded outcomes are those in the folders of the units",
            problems=[
                words
                for unit_id, outcome in outcomes.items()
                if unit_id in units
                for words in recorded_otherwise(unit_id, outcome, units[unit_id].metrics)
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
        Check(
            what=f"the arms of the {len(units)} recorded units are those drawn",
            problems=[
                f"unit {unit_id} is recorded as {unit.tags['arm']}, drawn was {arms.get(unit_id)}"
                for unit_id, unit in units.items()
                if arms.get(unit_id) != unit.tags["arm"]
            ],
        ),
    ]
