"""Classify failures, and decide what runs again after one.

A failure of the unit itself is an outcome: the unit has failed and stays in its arm. A failure of
the infrastructure (a lost process or node, a broken GPU, no memory left) is retried. A failure of
the user's environment (a file that cannot be written) leaves the unit pending.
"""

import re
from dataclasses import dataclass
from typing import Any

from analysis import schema
from trials.campaign.folder import RunFolder
from trials.campaign.notes import write_note

DEVICE_ERROR = re.compile(r"(CUDA|cuDNN|NCCL) error|CU(DNN|BLAS|SOLVER|FFT)_STATUS")


def cause_of(error: Any) -> Any:
    """Return what a process raised, or what Ray raised in place of a lost process."""
    return getattr(error, "cause", None) or error


def is_ray_error(error: Any) -> bool:
    """Tell whether Ray itself raised an error: a process or node was lost."""
    return type(error).__module__.startswith("ray.")


def is_infrastructure_failure(error: Any) -> bool:
    """Tell whether the process of an error is lost: Ray lost it, or its GPU broke.

    After a CUDA error every later CUDA call in the process fails too, so that it would fail all
    units that it is given.
    """
    import torch

    if is_ray_error(error) or isinstance(error, torch.AcceleratorError):
        return True
    return isinstance(error, RuntimeError) and bool(DEVICE_ERROR.search(str(error)))


def is_out_of_memory(error: Any) -> bool:
    """Tell whether the memory of the machine or of its GPU ran out."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError)


def one_line(error: Any) -> str:
    """Write an error in one line of at most 300 characters; Ray puts the reason last."""
    text = " ".join(str(error).split())
    return text[-300:] if is_ray_error(error) else text[:300]


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
    """

    def __init__(self, run_folder: RunFolder) -> None:
        self.run_folder = run_folder
        self.retries = run_folder.settings.retries
        self.again: set[str] = set()
        self.losses: dict[str, str] = {}
        self.asset_losses = 0  # in the present pass

    def unit_lost(self, unit_id: str, error: Any) -> Loss:
        """Decide what follows the loss of a unit, and note it in the unit's folder.

        A file that cannot be written is not counted: the user has to act first.
        """
        cause = cause_of(error)
        reason = one_line(cause)
        reason = f"{type(cause).__name__}: {reason}" if reason else "its process died"
        self.losses[unit_id] = reason
        if isinstance(cause, OSError):
            return Loss(message=f"{unit_id} could not go on: {reason}")
        folder = self.run_folder.unit_folder(unit_id)
        reasons = [*self.run_folder.note(unit_id, "lost").get("reasons", []), reason]
        write_note(folder, "lost", {"reasons": reasons})
        if len(reasons) <= self.retries:
            self.again.add(unit_id)
            times = f"{len(reasons)} of {self.retries} times"
            return Loss(message=f"{unit_id} was lost and will run again ({times}): {reason}")
        del self.losses[unit_id]
        last = f"lost {len(reasons)} times, last by {reason}"
        write_note(folder, schema.FAILED, {"reason": last})
        return Loss(message=f"{unit_id} failed: {last}", failed=True)

    def assets_lost(self, name: str, error: Any) -> str:
        """Allow assets to be built again if their process or memory was lost; return a line.

        Raises:
            ValueError, OSError: they cannot be built, or their process was lost too often.
        """
        cause = cause_of(error)
        if not (is_out_of_memory(cause) or is_infrastructure_failure(cause)):
            raise cause
        lost = f"the process that built the {name} was lost: {one_line(cause)}"
        self.asset_losses += 1
        if self.asset_losses > self.retries:
            raise ValueError(f"{lost}; run the same command again")
        return f"{lost}; they are built again"

    def take_again(self) -> set[str]:
        """Return the units that run again in the next pass, and start to count anew."""
        again, self.again = self.again, set()
        self.asset_losses = 0
        return again
