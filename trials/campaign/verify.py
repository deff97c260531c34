"""Verify a campaign: recompute the allocation and compare folder and record with it."""

from typing import Any

from analysis import schema
from analysis.record.store import COMPLETE
from atat_ray.unit.computed_on import read_processes
from atat_ray.unit.run import OUTCOME
from atat_ray.utils.stage_files import MissingStage
from trials import allocation
from trials.campaign.campaign import Campaign
from trials.campaign.inputs import commitments
from trials.campaign.unit_content import pictures_of, read_all_assets, tags_of
from trials.campaign.verify_files import (
    Check,
    changed_assets,
    damage_of,
    damaged_files,
    missing_files,
    verify_inputs,
)
from trials.config.settings import canonical_json
from trials.tracking.compare import altered, metric_differences, tag_differences
from trials.tracking.outcome_tables import artifacts_of
from trials.tracking.record import MlflowRecord
from trials.tracking.unit_tags import content_tags

# Tags that are compared here; other checks compare the others, but for the commit of the source.
OF_NOTES = ("reason", "start_order", "node", "device", "times_lost", "failed_before")


def verify(campaign: Campaign) -> list[Check]:
    """Recompute the allocation of a campaign and compare folder and record with it.

    Raises:
        ValueError: the record cannot be read.
    """
    drawn = allocation.draw(campaign.settings, campaign.nonce)
    allowed = campaign.settings.nonce == "secret" or campaign.nonce == str(campaign.settings.seed)
    checks = [
        Check(
            what="the nonce follows the protocol",
            problems=[] if allowed else [f"the nonce is {campaign.nonce}, not the seed"],
        ),
        Check(
            what=f"allocation.csv is what protocol and nonce draw ({len(drawn)} units)",
            problems=allocation.differences(campaign.table, drawn),
        ),
        Check(
            what="the folder has the hashes that were committed before the first unit "
            "(committed.json)",
            problems=campaign.broken_commitments(),
        ),
        Check(
            what="every file of the units and assets holds what was written",
            problems=damaged_files(campaign),
        ),
        Check(
            what="no file of a finished unit, of its assets or of the campaign is missing",
            problems=missing_files(campaign, drawn),
        ),
        verify_inputs(campaign),
        Check(
            what="the assets are those that the units were measured with",
            problems=changed_assets(campaign),
        ),
        Check(
            what="every finished unit was trained with the defense of its drawn arm",
            problems=training_mismatches(campaign, drawn),
        ),
    ]
    return [*checks, *verify_record(campaign, drawn)]


def hash_mismatches(computed: dict[str, str], recorded: dict[str, str]) -> list[str]:
    """List the hashes that differ from the recorded ones."""
    return [
        f"{name} is {value}, but the record was committed to {recorded.get(name)}"
        for name, value in computed.items()
        if recorded.get(name) != value
    ]


def training_mismatches(campaign: Campaign, drawn: list[allocation.Assignment]) -> list[str]:
    """List the units whose outcome has another specification than their drawn arm."""
    return [
        f"unit {row.unit_id} has an outcome that is not of arm {row.arm} under this protocol"
        for row in drawn
        if (file := campaign.unit_folder(row.unit_id) / OUTCOME).exists()
        and not damage_of(file)
        and campaign.outcome(row) is None
    ]


def verify_record(campaign: Campaign, drawn: list[allocation.Assignment]) -> list[Check]:
    """Compare the record in MLflow with the drawn allocation and the folders of the units."""
    record = MlflowRecord(campaign.tracking_uri, campaign.settings.name)
    if not record.attach():
        return [Check(what="the record", problems=[f"there is none at {campaign.tracking_uri}"])]
    tags, table = record.registered()
    protocol = record.store.read_text(record.parent_id, schema.PROTOCOL_FILE)
    same = protocol == canonical_json(campaign.settings.canonical()).decode()
    return [
        *verify_claims(campaign),
        *verify_units(campaign, record, {row.unit_id: row for row in drawn}),
        Check(
            what="protocol, nonce, allocation and inputs have the hashes that the record was "
            "committed to",
            problems=hash_mismatches(commitments(campaign), tags),
        ),
        Check(
            what="the record's allocation is what protocol and nonce draw",
            problems=allocation.differences(allocation.from_csv(table), drawn),
        ),
        Check(
            what="the record's protocol is that of the folder",
            problems=[] if same else [f"{schema.PROTOCOL_FILE} in the record has another content"],
        ),
        Check(
            what="the record describes the assets in the folder",
            problems=asset_mismatches(campaign, record),
        ),
    ]


def verify_claims(campaign: Campaign) -> list[Check]:
    """Decide the claims of a protocol anew and compare the verdicts with the recorded ones."""
    if campaign.settings.claims is None:
        return []
    from analysis.record.reader import load_record
    from analysis.secondary.claims import changed_verdicts

    record = load_record(campaign.tracking_uri, campaign.settings.name)
    return [
        Check(
            what="the recorded verdicts on the claims are what the record gives",
            problems=changed_verdicts(record),
        )
    ]


def asset_mismatches(campaign: Campaign, record: MlflowRecord) -> list[str]:
    """Name the recorded list of assets if it is not that of the folder.

    It is not compared before a unit is recorded, or if an asset is missing, which is reported.
    """
    if not record.units():
        return []
    try:
        found = read_all_assets(campaign)
    except MissingStage:
        return []
    if record.has_assets(found):
        return []
    return [f"{schema.ASSETS_FILE} in the record is missing or has another content"]


def verify_units(
    campaign: Campaign, record: MlflowRecord, rows: dict[str, allocation.Assignment]
) -> list[Check]:
    """Compare the recorded units with the drawn rows (by unit id) and with their folders."""
    # The record is read before the folders: a unit that ends in between is not recorded yet.
    runs = sorted(record.runs(), key=unit_id_of)
    complete = [run for run in runs if run.info.status in COMPLETE]
    recorded = {unit_id_of(run) for run in complete}
    states = {unit_id: campaign.status(row) for unit_id, row in rows.items()}
    pairs = [(rows[unit_id_of(run)], run) for run in complete if unit_id_of(run) in rows]
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
            problems=[*undrawn_units(runs, rows), *duplicate_runs(runs)],
        ),
        Check(
            what="the recorded units have the blocks and arms that were drawn",
            problems=[line for row, run in pairs for line in allocation_mismatches(row, run)],
        ),
        Check(
            what="the recorded units have the status of their folders",
            problems=[line for row, run in pairs for line in status_mismatches(campaign, row, run)],
        ),
        Check(
            what="the recorded outcomes are those in the folders of the units",
            problems=[
                line
                for row, run in pairs
                for line in outcome_mismatches(campaign, record, row, run)
            ],
        ),
        Check(
            what="the record says where, when and after which losses each unit ran, as its folder",
            problems=[line for row, run in pairs for line in note_mismatches(campaign, row, run)],
        ),
        verify_processors(campaign, [run for row, run in pairs if campaign.outcome(row)]),
    ]


def verify_processors(campaign: Campaign, runs: list[Any]) -> Check:
    """Compare what finished units were computed on with their folders, and with each other."""
    problems, found = [], []
    for run in runs:
        unit_id, tags = unit_id_of(run), run.data.tags
        found.append(schema.join_processes(read_processes(campaign.unit_folder(unit_id))))
        problems += [
            f"unit {unit_id}: {tag} is recorded as {tags.get(tag) or schema.UNKNOWN}, its folder "
            f"has {value or schema.UNKNOWN}"
            for tag, value in found[-1].items()
            if tags.get(tag, "") != value
        ]
    return Check(
        what="the record names what each finished unit was computed on, as its folder does",
        problems=problems,
        notes=schema.processor_differences(found),
    )


def unit_id_of(run: Any) -> str:
    """Return the unit id in a run's tags."""
    return run.data.tags.get("unit_id", "")


def undrawn_units(runs: list[Any], rows: dict[str, allocation.Assignment]) -> list[str]:
    """List the units that are recorded but were not drawn."""
    undrawn = {unit_id_of(run) for run in runs if unit_id_of(run) not in rows}
    return [f"unit {unit_id} is recorded but was not drawn" for unit_id in sorted(undrawn)]


def duplicate_runs(runs: list[Any]) -> list[str]:
    """List the units that have more than one run, with their run ids."""
    runs_of: dict[str, list[str]] = {}
    for run in runs:
        runs_of.setdefault(unit_id_of(run), []).append(run.info.run_id)
    return [
        f"unit {unit_id} has {len(ids)} runs in the record: {', '.join(ids)}"
        for unit_id, ids in runs_of.items()
        if len(ids) > 1
    ]


def allocation_mismatches(row: allocation.Assignment, run: Any) -> list[str]:
    """List the block and the arm of a unit if they are not recorded as drawn."""
    return [
        f"unit {row.unit_id}: {name} is recorded as {run.data.tags.get(name)}, drawn as {value}"
        for name, value in (("block", row.stratum), ("arm", row.arm))
        if run.data.tags.get(name) != value
    ]


def status_mismatches(campaign: Campaign, row: allocation.Assignment, run: Any) -> list[str]:
    """Name a unit whose recorded status differs from that in its folder.

    Two differences are not reported. A unit that runs again after a failure stays recorded as
    failed until it ends. An outcome of another arm is reported by :func:`training_mismatches`.
    """
    recorded, status = run.data.tags.get("status"), campaign.status(row)
    if status == schema.PENDING:
        again = recorded == schema.FAILED and campaign.failed_before(row.unit_id)
        if again or (campaign.unit_folder(row.unit_id) / OUTCOME).exists():
            return []
    if recorded == status:
        return []
    return [f"unit {row.unit_id}: status is recorded as {recorded}, its folder has {status}"]


def outcome_mismatches(
    campaign: Campaign, record: MlflowRecord, row: allocation.Assignment, run: Any
) -> list[str]:
    """List the metrics, contents and artifacts of a finished unit that differ from its folder."""
    outcome = campaign.outcome(row)
    if outcome is None or run.data.tags.get("status") != schema.FINISHED:
        return []  # status_mismatches reports it
    artifacts = artifacts_of(outcome, pictures_of(campaign, row) or {})
    found = altered(record.store, run, artifacts)
    return [
        *metric_differences(run, outcome),
        *tag_differences(run, content_tags(outcome)),
        *(f"unit {row.unit_id}: {line}" for line in found.values()),
    ]


def note_mismatches(campaign: Campaign, row: allocation.Assignment, run: Any) -> list[str]:
    """List the tags of a unit that differ from the notes in its folder.

    A tag of a note that is missing or damaged is not compared, because the note is reported.
    """
    if run.data.tags.get("status") != campaign.status(row):
        return []  # status_mismatches reports it
    tags = tags_of(campaign, row, campaign.outcome(row), "")
    unread = {name for name in ("start_order", "node", "device") if not tags[name]}
    return tag_differences(run, {name: tags[name] for name in OF_NOTES if name not in unread})
