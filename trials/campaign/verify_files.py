"""Verify the files that a campaign wrote and read: each holds what was written or registered."""

from dataclasses import dataclass, field
from pathlib import Path

from atat_ray.unit.block_assets import read_block_assets
from atat_ray.unit.inputs import manifests
from atat_ray.unit.run import OUTCOME, OUTCOME_SHAPE
from atat_ray.utils.json_files import Damaged, read_signed
from atat_ray.utils.stage_files import MissingStage, read_stage
from trials.campaign.campaign import Campaign
from trials.campaign.inputs import (
    assets_note,
    committed_inputs,
    differences,
    read_registered,
    settings_sources,
)
from trials.campaign.notes import SHAPES


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
        if registered is None and committed_inputs(campaign):
            problems.append(f"{campaign.inputs_file} is missing or damaged")
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
