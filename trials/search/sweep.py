"""A sweep and its folder; its points are units that are proposed one at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from analysis import schema
from atat_ray.unit import UnitSpec
from atat_ray.unit.train_stage import Trainer, train_here
from atat_ray.utils.json_files import read_signed
from trials.allocation import Assignment
from trials.campaign.folder import RunFolder
from trials.campaign.layout import FolderLayout
from trials.campaign.notes import SHAPES, note_file, read_note, write_note
from trials.config.search_methods import Asha, Grid, Options
from trials.config.sweep import SweepSettings
from trials.search.asha import Halving
from trials.search.proposals import Point, grid_point, propose
from trials.tracking.kinds import SWEEP

OPTIONS_NOTE = "options"  # note with the options of a point, written before it starts
EPOCHS_NOTE = "epochs"  # note with the clean accuracy by epoch, which ASHA compares


@dataclass(frozen=True, kw_only=True)
class Sweep(RunFolder):
    """A sweep; each proposed point appends a row to its table.

    Attributes:
        ended: points that have ended, by unit id, so that each is read from disk once.
    """

    kind = SWEEP
    file_name = "sweep.json"
    settings_type = SweepSettings
    settings: SweepSettings
    ended: dict[str, Point] = field(default_factory=dict, compare=False)

    @classmethod
    def load_table(
        cls, settings: SweepSettings, nonce: str, layout: FolderLayout
    ) -> list[Assignment]:
        """List the proposed points: those that have a note of their options.

        Raises:
            Damaged: a note is damaged; the points after it would be proposed again.
        """
        table = []
        for number in range(1, settings.total() + 1):
            row = point_row(settings, number)
            try:
                note = note_file(layout.unit_folder(row.unit_id), OPTIONS_NOTE)
                read_signed(note, shape=SHAPES[OPTIONS_NOTE])
            except FileNotFoundError:
                break
            table.append(row)
        return table

    def hashes(self) -> dict[str, str]:
        """Return the hash of the settings, by the name of its tag in the record."""
        return {"protocol_sha256": self.settings.sha256()}

    def spec(self, row: Assignment) -> UnitSpec:
        """Specify a point; all points have the same seeds."""
        defense = self.settings.defense(self.options(row))
        return self.settings.specify(row.unit_id, row.stratum, defense, seed_name=row.stratum)

    def options(self, row: Assignment) -> Options:
        """Read the options of a point."""
        return self.note(row.unit_id, OPTIONS_NOTE)

    def status(self, row: Assignment) -> str:
        """Tell whether a point is finished, failed, stopped by ASHA, or pending."""
        status = super().status(row)
        halted = status == schema.PENDING and self.note(row.unit_id, schema.STOPPED)
        return schema.STOPPED if halted else status

    def total(self) -> int:
        """Count the points of the whole sweep."""
        return self.settings.total()

    def trainer(self, row: Assignment) -> Trainer:
        """Return the training function; with ASHA it reports the accuracy after each epoch."""
        if not isinstance(self.settings.search, Asha):
            return train_here
        return partial(train_here, on_epoch=partial(report_epoch, self.unit_folder(row.unit_id)))

    def learns(self) -> bool:
        """Tell whether a proposal depends on earlier points; false for a grid."""
        return not isinstance(self.settings.search, Grid)

    def scheduler(self) -> Any:
        """Build the ASHA scheduler from what every point has reported; None for other methods."""
        search = self.settings.search
        if not isinstance(search, Asha):
            return None
        return Halving(
            epochs=self.settings.training.epochs,
            grace=search.grace,
            reduction=search.reduction,
            curves={row.unit_id: self.curve(row) for row in self.table},
            on_stop=self.note_stopped,
        ).scheduler()

    def curve(self, row: Assignment) -> dict[int, float]:
        """Read the clean accuracy that a point reported after each epoch."""
        reported = self.note(row.unit_id, EPOCHS_NOTE)
        return {int(epoch): value for epoch, value in reported.items()}

    def note_stopped(self, unit_id: str, epoch: int, clean_acc: float) -> None:
        """Note that ASHA stopped a point."""
        reason = f"stopped by ASHA after epoch {epoch} at clean accuracy {clean_acc:.3f}"
        write_note(self.unit_folder(unit_id), schema.STOPPED, {"reason": reason})

    def point(self, row: Assignment) -> Point:
        """Return a point with its status and outcomes; one that has ended is read once."""
        if row.unit_id in self.ended:
            return self.ended[row.unit_id]
        status, options = self.status(row), self.options(row)
        outcome = self.outcome(row) if status == schema.FINISHED else None
        point = Point(options=options, status=status)
        if outcome is not None:
            leakage = outcome["inversions"][self.settings.outcome]
            point = replace(point, leakage=leakage, clean_acc=outcome["clean_acc"])
        if status != schema.PENDING:
            self.ended[row.unit_id] = point
        return point

    def proposals(self) -> Iterator[Assignment]:
        """Generate the points that are not proposed yet, each when it is asked for."""
        while self.unproposed():
            yield self.propose()

    def propose(self) -> Assignment:
        """Propose the next point, write its options and append it to the table."""
        if isinstance(self.settings.search, Grid):
            options = grid_point(self.settings.search, len(self.table))
        else:
            options = propose(self.settings, [self.point(row) for row in self.table])
        row = point_row(self.settings, len(self.table) + 1)
        write_note(self.unit_folder(row.unit_id), OPTIONS_NOTE, options)
        self.table.append(row)
        return row


def point_row(settings: SweepSettings, number: int) -> Assignment:
    """Return the table row of a point; points count from 1, the arm is the defense's name."""
    (block,) = settings.blocks
    width = len(str(settings.total()))
    unit_id = f"point-{number:0{width}}"
    return Assignment(unit_id=unit_id, stratum=block, arm=settings.arm["defense"])


def report_epoch(folder: Path, epoch: int, clean_acc: float) -> None:
    """Note the clean accuracy after an epoch and report it to ASHA, which may stop the point."""
    from ray import tune

    reported = read_note(folder, EPOCHS_NOTE)
    write_note(folder, EPOCHS_NOTE, {**reported, str(epoch): clean_acc})
    tune.report({"epoch": epoch, "clean_acc": clean_acc})
