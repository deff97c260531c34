"""Content of the record from the folders of units and assets: tags, pictures, descriptions."""

from typing import TYPE_CHECKING, Any

from atat_ray.unit.block_assets import read_block_assets
from atat_ray.unit.computed_on import read_processes
from atat_ray.utils.stage_files import load_stage
from trials.allocation import Assignment
from trials.tracking.unit_tags import unit_tags

if TYPE_CHECKING:
    from trials.campaign.folder import RunFolder

PICTURES = "score.pt"  # stage file of a unit that holds its pictures


def read_all_assets(run_folder: "RunFolder") -> list[dict[str, Any]]:
    """Read the descriptions of the assets of all blocks.

    Raises:
        MissingStage: an asset is missing or damaged.
    """
    found = [read_block_assets(block, run_folder.assets) for block in run_folder.blocks()]
    return [asset for assets in found for asset in assets]


def tags_of(
    run_folder: "RunFolder", row: Assignment, outcome: dict[str, Any] | None, git_commit: str
) -> dict[str, str]:
    """Collect the tags of a unit that has ended.

    Args:
        run_folder: the campaign or sweep.
        row: of the allocation.
        outcome: of a finished unit, else None.
        git_commit: of the source tree.
    """
    unit_id = row.unit_id
    return unit_tags(
        row,
        run_folder.spec(row),
        outcome,
        status=run_folder.status(row),
        reason=run_folder.reason(row),
        start=run_folder.note(unit_id, "start"),
        place=run_folder.note(unit_id, "place"),
        processes=read_processes(run_folder.unit_folder(unit_id)),
        times_lost=run_folder.times_lost(unit_id),
        failed_before=run_folder.failed_before(unit_id),
        git_commit=git_commit,
    )


def pictures_of(run_folder: "RunFolder", row: Assignment) -> dict[str, Any] | None:
    """Read the pictures of a finished unit; None if their stage file is missing or damaged.

    Returns:
        uint8 arrays (H, W) or (H, W, 3) by inversion attack.
    """
    path = run_folder.unit_folder(row.unit_id) / PICTURES
    scored = load_stage(path, run_folder.spec(row).score_hash())
    if scored is None:
        return None
    images = {name: p.permute(1, 2, 0).numpy() for name, p in scored["pictures"].items()}
    return {name: i[:, :, 0] if i.shape[2] == 1 else i for name, i in images.items()}
