"""Folders that the commands work on: load one, reach its record, check what a new one needs."""

import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trials.campaign.folder import RunFolder
    from trials.config.settings import Settings


def check_new(kind: type["RunFolder"], settings: "Settings", folder: Path, uri: str | None) -> None:
    """Check what a new campaign or sweep needs; say if it replaces one that has not started.

    Raises:
        ValueError: something is missing; nothing was written.
    """
    from trials.campaign.creation import changes_before_start
    from trials.execution.preflight import check_inputs

    changes = changes_before_start(kind, settings, folder)
    replaced = []
    if changes:
        found = kind.load(folder)
        replaced = [*found.replaced, found.hashes()]
    check_inputs(settings, kind.kind, folder, uri, replaced)
    if changes:
        print(f"no unit had started in {folder}: the {kind.kind.parent} is begun anew with other "
              f"settings; changed: {'; '.join(changes)}", file=sys.stderr)  # fmt: skip


def load(options: Namespace) -> "RunFolder":
    """Load the campaign or sweep in ``--out`` or, without it, in the folder of its name.

    Its record is followed to another address only if the user gives that address.
    """
    from trials.campaign.campaign import Campaign
    from trials.campaign.layout import default_folder
    from trials.search.sweep import Sweep

    folder = options.out or default_folder(Path(options.campaign).stem)
    run_folder = Sweep.load(folder) if Sweep.is_in(folder) else Campaign.load(folder)
    return at_given_address(run_folder, options)


def at_given_address(run_folder: "RunFolder", options: Namespace) -> "RunFolder":
    """Follow a record to the address in the options, or in the environment if it is kept there.

    Raises:
        ValueError: the option names another address than the record's, or the command needs the
            record and its address was not given.
    """
    from trials.campaign.layout import external_uri

    option = getattr(options, "tracking_uri", None)
    environment = os.environ.get("MLFLOW_TRACKING_URI")
    if not option and external_uri(environment, run_folder.folder) == run_folder.tracking_uri:
        option = environment
    run_folder = run_folder.at(option) if option else run_folder
    if "tracking_uri" in options:
        run_folder.tracking_uri.check_given()
    return run_folder


def check_unregistered(run_folder: "RunFolder") -> None:
    """Check what a campaign or sweep needs that was written and not registered yet.

    Raises:
        ValueError: something is missing.
    """
    from trials.campaign.layout import external_uri
    from trials.execution.preflight import check_inputs

    uri = external_uri(run_folder.tracking_uri, run_folder.folder)
    settings, folder = run_folder.settings, run_folder.folder
    check_inputs(settings, run_folder.kind, folder, uri, run_folder.replaced)
