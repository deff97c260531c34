"""Follow the units of a run: note starts, record ends, retry losses, show progress."""

import time
from dataclasses import dataclass
from typing import Any

from analysis import schema
from trials.allocation import Assignment
from trials.campaign.creation import check_is_there
from trials.campaign.folder import RunFolder
from trials.campaign.notes import write_note
from trials.execution.classify import classify
from trials.execution.display import Lines
from trials.execution.failures import RetryPolicy
from trials.execution.progress import ProgressTracker
from trials.execution.recorder import Recorder


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """How a run ended.

    Attributes:
        finished: units that are finished, those of earlier runs included.
        total: units of the campaign.
        failed: reason by unit.
        lost: reason by unit, of units that were lost in this run and are still pending.
        unrecorded: units that have ended and are not in the record, which could not be reached.
        seconds: wall time of this run.
    """

    finished: int
    total: int
    failed: dict[str, str]
    lost: dict[str, str]
    unrecorded: int
    seconds: float


class UnitEvents:
    """What the driver does when a unit or the assets of a block start, end or are lost.

    Args:
        run_folder: a campaign or sweep.
        display: prints lines and progress.

    Attributes:
        failed_assets: name and error of assets that could not be built in the present pass.
    """

    def __init__(self, run_folder: RunFolder, display: Lines) -> None:
        self.run_folder = run_folder
        self.display = display
        self.recorder = Recorder(run_folder, self.say)
        self.progress = ProgressTracker(run_folder, display)
        self.retries = RetryPolicy(run_folder)
        self.failed_assets: tuple[str, Any] | None = None
        self.rows = {row.unit_id: row for row in run_folder.table}
        starts = [run_folder.note(unit_id, "start").get("order", 0) for unit_id in self.rows]
        self.last_order = max(starts, default=0)
        self.began_at = time.monotonic()

    def say(self, line: str) -> None:
        """Print a line for the user."""
        self.display.say(line)

    def unit_added(self, row: Assignment) -> None:
        """Take up a unit that was proposed during the run."""
        self.rows[row.unit_id] = row
        self.progress.set_pending(row)

    def unit_started(self, unit_id: str) -> None:
        """Note the realised order of starts; a unit that starts again keeps its first place.

        Raises:
            ValueError: the folder was deleted or moved.
        """
        check_is_there(self.run_folder)
        if not self.run_folder.note(unit_id, "start"):
            self.last_order += 1
            folder = self.run_folder.unit_folder(unit_id)
            write_note(folder, "start", {"order": self.last_order, "time": time.time()})
        self.progress.started(unit_id)

    def unit_ended(self, unit_id: str) -> None:
        """Record a unit that finished or failed; a stopped one stays pending.

        Raises:
            ValueError: the folder was deleted or moved.
        """
        check_is_there(self.run_folder)
        row = self.rows[unit_id]
        status = self.run_folder.status(row)
        if status == schema.PENDING:
            self.progress.set_pending(row)
            self.say(f"{unit_id} stopped; its finished stages are kept")
            return
        self.recorder.record_unit(row)
        self.retries.unit_ended()
        self.progress.ended(unit_id, status)

    def unit_lost(self, unit_id: str, error: Any) -> None:
        """Decide whether a unit runs again whose process was lost."""
        self.progress.set_pending(self.rows[unit_id])
        loss = self.retries.unit_lost(unit_id, error, others=len(self.progress.running()))
        self.say(loss.message)
        if loss.failed:
            self.unit_ended(unit_id)

    def assets_built(self) -> None:
        """Record the assets of all blocks, and what an earlier run left unrecorded."""
        self.recorder.record_assets()
        if self.progress.left:
            self.say(f"running {self.progress.left} units of {self.run_folder.total()}")

    def assets_failed(self, name: str, error: Any) -> None:
        """Keep why the assets of a block could not be built."""
        self.failed_assets = (name, error)

    def pass_lost(self, error: Any) -> None:
        """Let the units that were running run again.

        Raises:
            ValueError: Ray was lost too often.
        """
        running = self.progress.running()
        for unit_id in running:
            self.progress.set_pending(self.rows[unit_id])
        self.say(self.retries.pass_lost(running, error))

    def broke(self, error: Exception) -> None:
        """Say that no unit starts any more, because an event could not be noted."""
        self.say(f"no further unit starts, running ones end: {classify(error)}")

    def most(self) -> int | None:
        """Return how many tasks may run at a time."""
        return self.retries.most

    def take_failed_assets(self) -> tuple[str, Any] | None:
        """Return name and error of assets that could not be built, and forget them."""
        failed, self.failed_assets = self.failed_assets, None
        return failed

    def close(self) -> Summary:
        """Close the record and summarise the run."""
        self.recorder.close()
        run_folder = self.run_folder
        status = run_folder.statuses()
        return Summary(
            finished=list(status.values()).count(schema.FINISHED),
            total=run_folder.total(),
            failed=run_folder.failures(status),
            lost={u: why for u, why in self.retries.losses.items() if status[u] == schema.PENDING},
            unrecorded=len(self.recorder.unrecorded),
            seconds=time.monotonic() - self.began_at,
        )
