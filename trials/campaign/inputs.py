"""Content of what the units of a run folder read: registered once, compared before every use.

``inputs.json`` has a manifest of every input: data, ImageNet weights, generators. A file beside the
assets of each block has their content. The record has the hashes of both.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis import schema
from atat_ray.data.file_digests import MAX_BYTES
from atat_ray.data.listing import abbreviate
from atat_ray.unit.inputs import Manifest, Source, block_sources, manifests, weights_sources
from atat_ray.utils.hashing import specification_hash
from atat_ray.utils.json_files import Damaged, digest_of, read_json, read_signed, write_signed
from atat_ray.utils.messages import tell_once
from trials.campaign.layout import FolderLayout
from trials.config.settings import Settings

if TYPE_CHECKING:
    from trials.campaign.folder import RunFolder

ADVICE = "put the registered files back, or start again in another folder"
COMMITTED = "inputs_sha256"
MANIFESTS = {str: {str: str}}  # shape of the registered inputs: SHA-256 by input and file


class ChangedInputs(ValueError, OSError):
    """An input has another content than was registered. It is no failure of a unit."""


def settings_sources(settings: Settings) -> dict[str, Source]:
    """Name the inputs of all blocks, each with the function that computes its manifest."""
    sources: dict[str, Source] = {}
    for name, block in settings.blocks.items():
        sources |= block_sources(settings.block_spec(name))
        sources |= weights_sources(block.architecture or settings.architecture, settings.training)
    return sources


def register_inputs(layout: FolderLayout, sources: dict[str, Source]) -> None:
    """Register the content of inputs in a folder, or compare it with what is registered there.

    Raises:
        ChangedInputs: an input has another content; the message names what differs.
        ValueError: a file is missing.
    """
    found = manifests(sources)
    registered = read_registered(layout)
    if registered is not None:
        refuse_changes(differences(registered, found))
        return
    committed = committed_inputs(layout)
    if committed and committed != digest_of(found):
        raise ChangedInputs(
            f"{layout.inputs_file} is missing or damaged, and the data are not those that were "
            f"registered (sha256 {digest_of(found)[:12]}..., registered was {committed[:12]}...); "
            f"{ADVICE}"
        )
    write_signed(layout.inputs_file, found)


def restore_inputs(
    layout: FolderLayout, sources: dict[str, Source], say: Callable[[str], None]
) -> None:
    """Write the file of the registered inputs again if it is missing or damaged, and say so.

    It is not written if the data are not those that were registered, or are not on this machine.
    """
    if read_registered(layout) is not None:
        return
    try:
        register_inputs(layout, sources)
    except ValueError as error:
        say(f"{layout.inputs_file} is not written again: {error}")
        return
    say(f"{layout.inputs_file} was missing or damaged; it is written again")


def committed_inputs(layout: FolderLayout) -> str:
    """Return the hash of the inputs that the record was committed to; empty before that.

    Raises:
        Damaged: the file of the committed hashes cannot be read.
    """
    try:
        return str(read_json(layout.committed_file).get(COMMITTED, ""))
    except FileNotFoundError:
        return ""


def read_registered(layout: FolderLayout) -> dict[str, Manifest] | None:
    """Read the registered manifests; None if there are none or their file is damaged."""
    try:
        return read_signed(layout.inputs_file, shape=MANIFESTS, max_bytes=MAX_BYTES)
    except FileNotFoundError:
        return None
    except Damaged as error:
        tell_once(f"{error}; it counts as missing, and is made again where it is needed")
        return None


def check_inputs(layout: FolderLayout, sources: dict[str, Source]) -> None:
    """Refuse inputs whose content differs from what is registered in a folder, if anything is.

    Raises:
        ChangedInputs: the message names what differs or is missing.
    """
    registered = read_registered(layout)
    if registered is None:
        return
    try:
        found = manifests(sources)
    except ValueError as error:
        raise ChangedInputs(str(error)) from error
    refuse_changes(differences(registered, found))


def refuse_changes(lines: list[str]) -> None:
    """Refuse to go on if anything differs."""
    if lines:
        raise ChangedInputs(f"{'; '.join(lines)}; {ADVICE}")


def differences(registered: dict[str, Manifest], found: dict[str, Manifest]) -> list[str]:
    """Name the inputs that differ from the registered ones, and the files in which they do."""
    lines = []
    for name, manifest in found.items():
        before = registered.get(name)
        if before is None:
            lines.append(f"{name} was not registered")
            continue
        groups = {
            "changed": [f for f in before if manifest.get(f, before[f]) != before[f]],
            "missing": [f for f in before if f not in manifest],
            "new": [f for f in manifest if f not in before],
        }
        parts = [f"{len(fs)} {what}: {abbreviate(fs)}" for what, fs in groups.items() if fs]
        if parts:
            lines.append(f"{name} is not what was registered ({'; '.join(parts)})")
    return lines


def commitments(run_folder: "RunFolder") -> dict[str, str]:
    """Hash what is committed before the first unit: settings, allocation and inputs."""
    registered = read_registered(run_folder)
    inputs = {} if registered is None else {COMMITTED: digest_of(registered)}
    return run_folder.hashes() | inputs


def contents(run_folder: "RunFolder") -> dict[str, str]:
    """Return the hash of each registered input, by name."""
    registered = read_registered(run_folder) or {}
    return {name: specification_hash(manifest) for name, manifest in registered.items()}


def registration_tags(run_folder: "RunFolder", text: Callable[[Any], str]) -> dict[str, str]:
    """Return the tags with which a folder is registered in a record, beside its versions.

    Args:
        run_folder: the campaign or sweep.
        text: function that writes a value as the record keeps it.
    """
    return commitments(run_folder) | {schema.INPUTS: text(contents(run_folder))}


def assets_note(layout: FolderLayout, block: str) -> Path:
    """Return the path of the file that lists the content of a block's assets."""
    return layout.assets / f"{block}.json"


def register_assets(layout: FolderLayout, block: str, assets: list[dict[str, Any]]) -> None:
    """Register the content of a block's assets, or compare it with what is registered.

    Assets that were made again may differ on another machine. Before a unit has ended, they replace
    the registered ones.

    Args:
        layout: of the run folder.
        block: name of the block.
        assets: their descriptions.

    Raises:
        ChangedInputs: they differ from those that units were measured with.
    """
    file = assets_note(layout, block)
    found = {asset["asset"]: asset["content_sha256"] for asset in assets}
    try:
        registered = read_signed(file)
    except (FileNotFoundError, Damaged):
        registered = {}
    changed = [name for name in found if registered.get(name, found[name]) != found[name]]
    if changed and any(layout.folder.glob("units/*/outcome.json")):
        raise ChangedInputs(
            f"the {' and the '.join(changed)} of block {block} are not those that earlier units "
            f"were measured with; put the files of {layout.assets} back, or start another campaign "
            "with --out"
        )
    if registered != found:
        write_signed(file, found)
