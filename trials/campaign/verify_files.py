"""Verify the files that a campaign wrote and read: each holds what was written or registered."""

from dataclasses import dataclass, field
from pathlib import Path

from analysis import schema
from atat_ray.unit.block_assets import evaluation_path, prior_path, read_block_assets
from atat_ray.unit.inputs import manifests
from atat_ray.unit.run import OUTCOME, OUTCOME_SHAPE, stage_files
from atat_ray.utils.json_files import Damaged, read_signed
from atat_ray.utils.stage_files import MissingStage, read_stage
from trials.allocation import Assignment
from trials.campaign.campaign import Campaign
from trials.campaign.inputs import (
    assets_note,
    committed_inputs,
    differences,
    read_registered,
    settings_sources,
)
from trials.campaign.notes import SHAPES

PUT_BACK = "put it back from a copy, the results stand without it"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """Result of one comparison.

    Attributes:
        what: statement that was checked.
        problems: one line for each difference; empty if the statement holds.
        notes: what a reader should know though the statement holds, one line each.
    """

    what: str
    problems: list[str]
    notes: list[str] = field(default_factory=list)


def damaged_files(campaign: Campaign) -> list[str]:
    """List the stage files, outcomes and notes that do not hold what was written."""
    folders = [campaign.assets, *(campaign.unit_folder(row.unit_id) for row in campaign.table)]
    stages = [path for folder in folders for path in sorted(folder.rglob("*.pt"))]
    notes = [path for folder in folders for path in sorted(folder.glob("*.json"))]
    return list(filter(None, [*(read_stage(path)[1] for path in stages), *map(damage_of, notes)]))


def missing_files(campaign: Campaign, drawn: list[Assignment]) -> list[str]:
    """List the files that were deleted after units had finished; results stand without them.

    Args:
        campaign: to look through.
        drawn: its units, as they are drawn.
    """
    found: dict[Path, str] = {}
    blocks = {}
    for row in drawn:
        outcome = campaign.outcome(row)
        if outcome is None:
            continue
        spec, folder = campaign.spec(row), campaign.unit_folder(row.unit_id)
        written = [*stage_files(spec, outcome), "start.json", "place.json"]
        found |= dict.fromkeys(
            (folder / name for name in written), f"unit {row.unit_id} finished with it; {PUT_BACK}"
        )
        blocks[spec.block.name] = spec.block
    for name, block in blocks.items():
        paths = [prior_path(block, inversion, campaign.assets) for inversion in block.priors]
        paths += [evaluation_path(block, campaign.assets), assets_note(campaign, name)]
        found |= dict.fromkeys(paths, f"units of block {name} finished with it; {PUT_BACK}")
    if blocks or campaign.is_committed():
        names = (schema.ALLOCATION_FILE, campaign.inputs_file.name, campaign.committed_file.name)
        found |= {campaign.folder / name: "`atat resume` writes it again" for name in names}
    return [f"{path} is missing: {why}" for path, why in found.items() if not path.exists()]


def damage_of(note: Path) -> str:
    """Describe the damage of a note or outcome in one line; empty without damage."""
    is_asset = note.parent.name == "assets"
    shape = {str: str} if is_asset else SHAPES.get(note.stem, dict)
    if note.name == OUTCOME:
        shape = OUTCOME_SHAPE
    try:
        read_signed(note, shape=shape)
    except (FileNotFoundError, Damaged) as error:
        return str(error)
    return ""


def changed_assets(campaign: Campaign) -> list[str]:
    """List the assets whose content is not the registered one; missing ones are made again."""
    problems = []
    for block in campaign.blocks():
        try:
            registered = read_signed(assets_note(campaign, block.name))
            found = read_block_assets(block, campaign.assets)
        except (FileNotFoundError, Damaged, MissingStage):
            continue
        problems += [
            f"the {asset['asset']} of block {block.name} are not those that were registered"
            for asset in found
            if registered.get(asset["asset"]) != asset["content_sha256"]
        ]
    return problems


def verify_inputs(campaign: Campaign) -> Check:
    """Compare the inputs on this machine with those that were registered."""
    registered = read_registered(campaign)
    sources = settings_sources(campaign.settings)
    problems, absent, compared = [], [], 0
    try:
        is_there = campaign.inputs_file.exists()  # else it is reported with the missing files
        if registered is None and is_there and committed_inputs(campaign):
            problems.append(f"{campaign.inputs_file} is damaged; `atat resume` writes it again")
    except Damaged:
        pass  # reported with the committed hashes
    for name, source in sources.items():
        try:
            found = manifests({name: source})
        except ValueError:
            absent.append(name)
            continue
        compared += len(found)
        problems += differences(registered or found, found)
    rest = f"; not on this machine: {', '.join(absent)}" if absent else ""
    return Check(
        what=f"the inputs have the content that was registered ({compared} compared{rest})",
        problems=problems,
    )
