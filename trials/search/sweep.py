"""A sweep in its folder, and how it runs: points are units, proposed one after the other."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from analysis import schema
from atat_ray.unit import UnitSpec
from atat_ray.utils.atomic_files import write_whole
from trials.allocation import Assignment
from trials.campaign.folder import (
    Kept,
    changed,
    check_folder,
    kept_elsewhere,
    local_uri,
    write_note,
)
from trials.config.sweep import Grid, Options, SweepSettings
from trials.search.proposals import Point, combination, propose
from trials.tracking.record import SWEEP

SWEEP_FILE = "sweep.json"
OPTIONS_NOTE = "options"  # of each point, written before it starts


@dataclass(frozen=True, kw_only=True)
class Sweep(Kept):
    """A sweep; its table grows by a row whenever a point is proposed."""

    kind = SWEEP
    protocol: SweepSettings
    ended: dict[str, Point] = field(default_factory=dict)  # by unit id, what ``point`` has read

    def hashes(self) -> dict[str, str]:
        """Hash what was registered."""
        return {"protocol_sha256": self.protocol.sha256()}

    def options(self, row: Assignment) -> Options:
        """Read the options of a point."""
        return self.note(row.unit_id, OPTIONS_NOTE)

    def spec(self, row: Assignment) -> UnitSpec:
        """Specify a point; all of them have the same seeds."""
        defense = self.protocol.defense(self.options(row))
        return self.protocol.specify(row.unit_id, row.block, defense, seed_name=row.block)

    def status(self, row: Assignment) -> str:
        """Tell whether a point is finished, failed, stopped by ASHA, or pending."""
        status = super().status(row)
        halted = status == schema.PENDING and self.note(row.unit_id, schema.STOPPED)
        return schema.STOPPED if halted else status

    def total(self) -> int:
        """Count the points that there will be."""
        return self.protocol.total()

    def over(self) -> bool:
        """Tell whether every point was proposed and has ended."""
        return len(self.table) == self.total() and not self.pending()

    def row(self, number: int) -> Assignment:
        """Name the point of a number, from 1; its arm is the name of the defense."""
        (block,) = self.protocol.blocks
        width = len(str(self.total()))
        unit_id = f"point-{number:0{width}}"
        return Assignment(unit_id=unit_id, block=block, arm=self.protocol.arm["defense"])

    def point(self, row: Assignment) -> Point:
        """Show a point as a search sees it; one that has ended is read once."""
        if row.unit_id in self.ended:
            return self.ended[row.unit_id]
        status, options = self.status(row), self.options(row)
        outcome = self.outcome(row) if status == schema.FINISHED else None
        point = Point(options=options, status=status)
        if outcome is not None:
            leakage = outcome["inversions"][self.protocol.outcome]
            point = replace(point, leakage=leakage, clean_acc=outcome["clean_acc"])
        if status != schema.PENDING:
            self.ended[row.unit_id] = point
        return point

    def add_point(self) -> Assignment:
        """Propose the next point, write it down and take it up."""
        if isinstance(self.protocol.search, Grid):
            options = combination(self.protocol.search, len(self.table))
        else:
            options = propose(self.protocol, [self.point(row) for row in self.table])
        row = self.row(len(self.table) + 1)
        write_note(self.unit_folder(row.unit_id), OPTIONS_NOTE, options)
        self.table.append(row)
        return row


def begin(settings: SweepSettings, folder: Path, tracking_uri: str | None) -> Sweep:
    """Write a sweep down, or go on with the one that is written.

    Raises:
        ValueError: the folder holds another sweep, naming what differs, or something else.
    """
    tracking_uri = kept_elsewhere(tracking_uri, folder)
    path = folder / SWEEP_FILE
    if not path.exists():
        check_folder(folder, "sweep", tracking_uri)
        content = {"sweep": settings.canonical(), "tracking_uri": tracking_uri}
        write_whole(path, json.dumps(content, indent=1).encode())
    sweep = load(folder)
    changes = changed(sweep.protocol.canonical(), settings.canonical())
    if changes:
        raise ValueError(
            f"{folder} holds another sweep; changed: {'; '.join(changes)}. "
            "Go on with the file as it was, or start another sweep with --out"
        )
    if tracking_uri not in (None, sweep.tracking_uri):
        raise ValueError(
            f"the record of {folder} is kept at {sweep.tracking_uri}, got {tracking_uri}; "
            "leave the address out to go on"
        )
    return sweep


def load(folder: Path) -> Sweep:
    """Load a sweep from its folder, with the points that were proposed.

    Raises:
        ValueError: its file cannot be read.
    """
    path = folder / SWEEP_FILE
    try:
        content = json.loads(path.read_text())
        settings, uri = SweepSettings.model_validate(content["sweep"]), content["tracking_uri"]
        if not isinstance(uri, str | None):
            raise ValueError("tracking_uri is a text")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    sweep = Sweep(
        protocol=settings,
        nonce="",
        table=[],
        folder=folder.absolute(),
        tracking_uri=uri or local_uri(folder),
    )
    for number in range(1, sweep.total() + 1):
        row = sweep.row(number)
        if not sweep.options(row):
            break
        sweep.table.append(row)
    return sweep
