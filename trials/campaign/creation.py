"""Write the file of a new campaign or sweep, or begin one anew before its first unit."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from analysis import schema
from atat_ray.utils.atomic_files import write_whole
from trials.allocation import to_csv
from trials.campaign.layout import check_new_folder, external_uri
from trials.campaign.lock import exclusive_lock
from trials.config.settings import Settings, changed_keys

if TYPE_CHECKING:
    from trials.campaign.folder import RunFolder

Made = TypeVar("Made", bound="RunFolder")


def write_file(
    kind: "type[RunFolder]",
    settings: Settings,
    folder: Path,
    *,
    nonce: str,
    tracking_uri: str | None,
    replaced: list[dict[str, str]],
) -> None:
    """Write the JSON file of a campaign or sweep.

    Args:
        kind: class of the campaign or sweep.
        settings: what is registered.
        folder: of the campaign or sweep.
        nonce: what the allocation is drawn from.
        tracking_uri: address of the record as it may be shown; None for the database in ``folder``.
        replaced: hashes under which it was registered before it was begun anew.
    """
    content = {
        "record_version": schema.RECORD_VERSION,
        "settings": settings.canonical(),
        "nonce": nonce,
        "tracking_uri": tracking_uri,
        **({"replaced": replaced} if replaced else {}),
    }
    write_whole(folder / kind.file_name, json.dumps(content, indent=1).encode())


def has_started(folder: Path) -> bool:
    """Tell whether any unit has begun: whether there is a file of a unit."""
    return any((folder / "units").glob("*/*"))


def write_allocation(run_folder: "RunFolder") -> bool:
    """Write the allocation of a campaign if it is not in the folder; return whether it was not."""
    file = run_folder.folder / schema.ALLOCATION_FILE
    if not run_folder.kind.randomised or file.exists():
        return False
    write_whole(file, to_csv(run_folder.table).encode())
    return True


def check_is_there(run_folder: "RunFolder") -> None:
    """Refuse to go on after the folder was deleted or moved by somebody else.

    Raises:
        ValueError: the folder does not hold the campaign or sweep any more.
    """
    if not run_folder.is_in(run_folder.folder):
        kind = run_folder.kind
        raise ValueError(
            f"{run_folder.folder} was deleted or moved while its {kind.parent} ran; put it back "
            "and run `atat resume`, or remove what is left of it and run "
            f"`atat {kind.command}`, which begins a new {kind.parent}"
        )


def changes_before_start(kind: "type[RunFolder]", settings: Settings, folder: Path) -> list[str]:
    """Name the keys that differ from a folder in which no unit has started.

    Returns:
        Nothing if the folder holds the same settings, no campaign, or one that has started.
    """
    if not kind.is_in(folder) or has_started(folder):
        return []
    return changed_keys(kind.load(folder).settings.canonical(), settings.canonical())


def create_or_resume(
    kind: "type[Made]", settings: Settings, folder: Path, tracking_uri: str | None
) -> "Made":
    """Register settings in a folder, load it, or begin it anew before its first unit.

    The arguments and errors are those of
    :meth:`~trials.campaign.folder.RunFolder.create_or_resume`.
    """
    address = external_uri(tracking_uri, folder)
    if not kind.is_in(folder):
        check_new_folder(folder, kind.kind.parent, address)
        nonce = kind.new_nonce(settings)
        write_file(kind, settings, folder, nonce=nonce, tracking_uri=address, replaced=[])
    found = kind.load(folder)
    changes = changed_keys(found.settings.canonical(), settings.canonical())
    if changes and has_started(folder):
        raise ValueError(
            f"{folder} holds a {kind.kind.parent} with other settings; changed: "
            f"{'; '.join(changes)}. Undo the change, or start another {kind.kind.parent} "
            "with --out"
        )
    if changes:
        begin_anew(found, settings, address)
        found = kind.load(folder)
    if not found.is_committed():
        write_allocation(found)
    found = found.at(tracking_uri) if tracking_uri else found
    found.check()
    return found


def begin_anew(found: "RunFolder", settings: Settings, tracking_uri: str | None) -> None:
    """Replace the settings of a campaign or sweep in which no unit has started.

    The allocation is drawn anew, and the inputs are registered anew. The assets stay: their files
    name what they were made of.

    Raises:
        ValueError: a process is running it.
    """
    with exclusive_lock(found.folder):
        found.committed_file.unlink(missing_ok=True)
        found.inputs_file.unlink(missing_ok=True)
        (found.folder / schema.ALLOCATION_FILE).unlink(missing_ok=True)
        write_file(
            type(found),
            settings,
            found.folder,
            nonce=found.new_nonce(settings),
            tracking_uri=tracking_uri,
            replaced=[*found.replaced, found.hashes()],
        )
