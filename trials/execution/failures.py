"""Decide what runs again after a failure, and with how many units at a time.

:mod:`trials.execution.classify` says whose a failure is. A lost process counts against the unit:
one that is lost too often has failed. Memory that ran out, failures of the user's environment and
what is lost while the run stops never count: the unit stays pending, and the next run resumes it.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from analysis import schema
from atat_ray.utils.messages import counted
from trials.campaign.folder import RunFolder
from trials.campaign.notes import write_note
from trials.execution.classify import MEMORY_RAN_OUT, Failure, Kind, causes_of, classify, is_of_ray

RAY_WAS_LOST = "Ray had to be started again"
UNCOUNTED = (MEMORY_RAN_OUT, RAY_WAS_LOST)  # how reasons begin that do not count against a unit
MEMORY_PAUSE = 10.0  # seconds before units run again after memory ran out


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """What follows the loss of a unit's process.

    Attributes:
        message: one line for the user.
        failed: the unit was lost too often and has failed.
    """

    message: str
    failed: bool = False


class RetryPolicy:
    """Decide what runs again, as often as the protocol's ``retries`` allows.

    Attributes:
        again: ids of units that will run again in this run.
        losses: reason by unit, of units that are still pending.
        most: tasks at a time that memory allows; None until it runs out.
        at_a_time: tasks at a time in the present pass.
    """

    def __init__(self, run_folder: RunFolder) -> None:
        self.run_folder = run_folder
        self.retries = run_folder.settings.retries
        self.again: set[str] = set()
        self.losses: dict[str, str] = {}
        self.most: int | None = None
        self.at_a_time = 1
        self.tries: Counter[str] = Counter()  # in this run, of units whose losses do not count
        self.asset_losses = 0  # in the present pass
        self.lost_passes = 0  # since a unit ended
        self.pause = 0.0  # seconds before the next pass

    def unit_lost(self, unit_id: str, error: Any, *, others: int = 0) -> Loss:
        """Decide what follows the loss of a unit, and note it in the unit's folder.

        Args:
            unit_id: of the unit.
            error: what its process raised, or what Ray raised in place of a lost process.
            others: units that are still running.
        """
        failure = classify(error)
        self.losses[unit_id] = str(failure)
        if self.run_folder.stop_file.exists():
            return Loss(message=f"{unit_id} was lost as the run stopped: {failure.reason}")
        if failure.kind is Kind.ENVIRONMENT:
            return self.try_again(unit_id, failure)
        reasons = [*self.run_folder.note(unit_id, "lost").get("reasons", []), failure.reason]
        write_note(self.run_folder.unit_folder(unit_id), "lost", {"reasons": reasons})
        if failure.kind is Kind.MEMORY:
            return self.try_again(unit_id, failure, fewer=self.lower(others))
        counted = sum(not reason.startswith(UNCOUNTED) for reason in reasons)
        if counted <= self.retries:
            self.again.add(unit_id)
            times = f"{counted} of {self.retries} times"
            return Loss(
                message=f"{unit_id} was lost and will run again ({times}): {failure.reason}"
            )
        del self.losses[unit_id]
        last = f"lost {counted} times, last by {failure.reason}"
        write_note(self.run_folder.unit_folder(unit_id), schema.FAILED, {"reason": last})
        return Loss(message=f"{unit_id} failed: {last}", failed=True)

    def try_again(self, unit_id: str, failure: Failure, *, fewer: str = "") -> Loss:
        """Let a unit run again if another try may succeed; leave it pending otherwise."""
        self.tries[unit_id] += 1
        if failure.passes and self.tries[unit_id] <= self.retries:
            self.again.add(unit_id)
            return Loss(message=f"{unit_id} was lost and will run again{fewer}: {failure.reason}")
        return Loss(message=f"{unit_id} could not go on: {failure}")

    def lower(self, most: int) -> str:
        """Allow fewer units at a time, at least one; return the clause that says so."""
        self.most = max(1, most if self.most is None else min(most, self.most))
        self.pause = MEMORY_PAUSE
        return f", at most {self.most} at a time"

    def pass_lost(self, running: Iterable[str], error: Any) -> str:
        """Let every unit of a pass that Ray lost run again; return one line.

        Raises:
            ValueError: Ray was lost too often while no unit ended.
        """
        failure, units = classify(error), list(running)
        self.lost_passes += 1
        self.asset_losses = 0
        is_memory = failure.kind is Kind.MEMORY
        reason = failure.reason if is_memory else f"{RAY_WAS_LOST}: {failure.reason}"
        for unit_id in units:
            reasons = [*self.run_folder.note(unit_id, "lost").get("reasons", []), reason]
            write_note(self.run_folder.unit_folder(unit_id), "lost", {"reasons": reasons})
            self.losses[unit_id] = str(failure)
            self.again.add(unit_id)
        if self.lost_passes > self.retries:
            raise ValueError(f"Ray was lost {self.lost_passes} times, last by {failure}")
        fewer = self.lower(len(units) // 2) if is_memory else ""
        again = counted(len(units), "unit")
        return f"Ray is started again, {again} will run again{fewer}: {failure.reason}"

    def assets_lost(self, name: str, error: Any) -> str:
        """Allow assets to be built again if their process or memory was lost; return a line.

        Raises:
            ValueError, OSError: they cannot be built, or their process was lost too often.
        """
        failure = classify(error)
        if not failure.passes:
            raise origin_of(error)
        lost = f"the process that built the {name} was lost: {failure.reason}"
        self.asset_losses += 1
        if self.asset_losses > self.retries:
            raise ValueError(f"{lost}; {failure.remedy}")
        fewer = self.lower(self.at_a_time // 2) if failure.kind is Kind.MEMORY else ""
        return f"{lost}; they are built again{fewer}"

    def unit_ended(self) -> None:
        """Take note that the run makes progress."""
        self.lost_passes = 0

    def may_run(self, unit_id: str) -> bool:
        """Tell whether a pending unit was not given up in this run."""
        return unit_id not in self.losses or unit_id in self.again

    def take_again(self) -> set[str]:
        """Return the units that run again in the next pass, and start to count anew."""
        again, self.again = self.again, set()
        self.asset_losses = 0
        return again

    def take_pause(self) -> float:
        """Return the seconds to wait before the next pass, and forget them."""
        pause, self.pause = self.pause, 0.0
        return pause


def origin_of(error: Any) -> BaseException:
    """Return the exception that a process raised, behind those that Ray made of it."""
    own = [cause for cause in causes_of(error) if not is_of_ray(cause)]
    return own[0] if own else ValueError(str(classify(error)))
