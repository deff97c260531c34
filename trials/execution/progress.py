"""Progress of a run: status of the units, and an estimate of the time left."""

import time

from analysis import schema
from trials.allocation import Assignment
from trials.campaign.folder import RunFolder
from trials.execution.display import Lines, Progress, format_duration

RUNNING = "running"


class ProgressTracker:
    """Count units by arm and status, and estimate the time left.

    Args:
        run_folder: a campaign or sweep.
        display: shows the counts; never an outcome.
    """

    def __init__(self, run_folder: RunFolder, display: Lines) -> None:
        self.run_folder = run_folder
        self.display = display
        self.states = run_folder.statuses()
        pending = sum(state == schema.PENDING for state in self.states.values())
        self.left = run_folder.unproposed() + pending
        self.ended_here = 0  # units that ended in this run
        self.first_start = 0.0  # by time.monotonic(), of this run

    def started(self, unit_id: str) -> None:
        """Count a unit as running."""
        self.first_start = self.first_start or time.monotonic()
        self.states[unit_id] = RUNNING
        self.show()

    def running(self) -> list[str]:
        """List the units that are running."""
        return [unit_id for unit_id, state in self.states.items() if state == RUNNING]

    def set_pending(self, row: Assignment) -> None:
        """Count a unit as pending: it is new, was stopped or was lost."""
        self.states[row.unit_id] = schema.PENDING

    def ended(self, unit_id: str, status: str) -> None:
        """Count a unit as finished or failed, and print a line."""
        self.states[unit_id] = status
        self.ended_here += 1
        self.left -= 1
        left = f", about {format_duration(self.seconds_left() or 0)} left" * (self.left > 0)
        total = self.run_folder.total()
        done = f"{total - self.left:>{len(str(total))}}"
        self.display.say(f"[{done}/{total}] {unit_id} {status}{left}")
        self.show()

    def seconds_left(self) -> float | None:
        """Estimate the time left from the units that ended in this run; None before the first."""
        if not self.ended_here:
            return None
        return (time.monotonic() - self.first_start) / self.ended_here * self.left

    def show(self) -> None:
        """Show units by arm and status."""
        states = list(dict.fromkeys([*schema.STATUSES, RUNNING, *self.states.values()]))
        counts = {arm: dict.fromkeys(states, 0) for arm in self.run_folder.arms()}
        for row in self.run_folder.table:
            counts[row.arm][self.states[row.unit_id]] += 1
        minutes = max(time.monotonic() - self.first_start, 1e-9) / 60
        self.display.show(
            Progress(
                counts=counts,
                seconds_left=self.seconds_left(),
                per_minute=self.ended_here / minutes,
            )
        )
