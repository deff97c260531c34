"""A sweep in its folder, and how it runs: points are units, proposed one after the other."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from analysis import schema
from atat_ray.specification import UnitSpec
from atat_ray.stages import write_whole
from atat_ray.target import train_here
from trials.allocation import Assignment
from trials.campaign import changed
from trials.devices import Need, alive, limit, needs, room_for
from trials.keeping import Kept, check_folder, kept_elsewhere, local_uri, write_note
from trials.record import SWEEP
from trials.running import conduct, run_one, run_pass
from trials.screen import Lines
from trials.sweep import Asha, Grid, Options, SweepSettings
from trials.sweep_halving import Halving
from trials.sweep_search import Point, combination, propose
from trials.writer import Summary, Writer

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


def run(sweep: Sweep, *, at_a_time: int | None, screen: Lines) -> Summary:
    """Run every point that has not ended, propose those that are missing, leave a whole record.

    Raises:
        ValueError: the MLflow server does not answer, or the points do not fit the machine.
        OSError: a file cannot be written.
    """
    return conduct(
        sweep,
        Writer(sweep, screen),
        lambda ray, writer: run_passes(ray, sweep, writer, at_a_time),
    )


def run_passes(ray: Any, sweep: Sweep, writer: Writer, at_a_time: int | None) -> None:
    """Run what is pending, then what is proposed, and again what a lost process left."""
    need = needs(sweep.protocol, alive(ray))
    ((block, one),) = need.items()
    waiting, missing = sweep.pending(), sweep.total() - len(sweep.table)
    while (waiting or missing) and not sweep.stop_file.exists():
        # A search that learns is asked no earlier than its points can start.
        grid = isinstance(sweep.protocol.search, Grid)
        most = limit(sweep.protocol, alive(ray)) if grid else max(1, room_for(one, alive(ray)))
        run_pass(
            sweep,
            writer,
            worker(sweep, one),
            partial(queue, sweep, waiting, len(sweep.table), writer.joined),
            need=need,
            block_of=lambda unit_id: block,
            at_a_time=min(most, at_a_time or most),
            scheduler=halving(sweep),
        )
        waiting = [row for row in sweep.pending() if row.unit_id in writer.again]
        missing = sweep.total() - len(sweep.table)
        writer.again.clear()


def queue(
    sweep: Sweep, waiting: list[Assignment], known: int, joined: Callable[[Assignment], None]
) -> Iterator[str]:
    """Hand out the points that were begun, then new ones, each proposed when it is asked for.

    Points after the first ``known`` were proposed in an earlier try of the same pass.
    """
    for row in [*waiting, *sweep.table[known:]]:
        if sweep.status(row) == schema.PENDING:
            yield row.unit_id
    while len(sweep.table) < sweep.total():
        row = sweep.add_point()
        joined(row)
        yield row.unit_id


def halving(sweep: Sweep) -> Any:
    """Make the scheduler of an ASHA sweep, which knows what every point has reported; else None."""
    search = sweep.protocol.search
    if not isinstance(search, Asha):
        return None
    curves = {row.unit_id: epochs_of(sweep, row.unit_id) for row in sweep.table}

    def note(unit_id: str, epoch: int, clean_acc: float) -> None:
        reason = f"stopped by ASHA after epoch {epoch} at clean accuracy {clean_acc:.3f}"
        write_note(sweep.unit_folder(unit_id), schema.STOPPED, {"reason": reason})

    return Halving(
        epochs=sweep.protocol.training.epochs,
        grace=search.grace,
        reduction=search.reduction,
        curves=curves,
        on_stop=note,
    ).scheduler()


def epochs_of(sweep: Sweep, unit_id: str) -> dict[int, float]:
    """Read the clean accuracy that a point reported after each epoch."""
    return {int(epoch): value for epoch, value in sweep.note(unit_id, "epochs").items()}


def worker(sweep: Sweep, need: Need) -> Callable[[str], None]:
    """Make the function that runs a point in a Tune trial's process."""
    protocol = sweep.protocol
    rows = {sweep.row(number).unit_id: number for number in range(1, sweep.total() + 1)}
    watched = isinstance(protocol.search, Asha)

    def work(unit_id: str) -> None:
        folder, trainer = sweep.unit_folder(unit_id), train_here
        if watched:
            trainer = partial(train_here, on_epoch=partial(report, folder))
        run_one(
            sweep.spec(sweep.row(rows[unit_id])),
            sweep.assets,
            folder,
            stop=sweep.stop_file,
            share=need.resources,
            retries=protocol.retries,
            trainer=trainer,
        )

    return work


def report(folder: Path, epoch: int, clean_acc: float) -> None:
    """Tell ASHA the clean accuracy after an epoch, and keep it; ends the point where ASHA says."""
    from ray import tune

    path = folder / "epochs.json"
    told = json.loads(path.read_text()) if path.exists() else {}
    write_note(folder, "epochs", {**told, str(epoch): clean_acc})
    tune.report({"epoch": epoch, "clean_acc": clean_acc})
