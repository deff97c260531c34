"""A training that was cut off goes on where it was, bit for bit."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atat_ray.utils.stage_files import load_stage, save_stage


class Checkpoint:
    """A file with the state of a training, written at most every ``seconds``.

    Args:
        path: of the file; on several nodes, in a folder that all of them see.
        specification: hash of what is trained; a file of another one is not read.
        seconds: least time between two writes, so that short trainings write nothing.
        writes: whether this process writes; with several workers, one of them does.
    """

    def __init__(
        self, path: Path, specification: str, *, seconds: float = 60.0, writes: bool = True
    ) -> None:
        self.path = path
        self.specification = specification
        self.seconds = seconds
        self.writes = writes
        self.last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Read the state; None if there is none of this specification."""
        return load_stage(self.path, self.specification)

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write the state if it is time to."""
        if self.writes and time.monotonic() - self.last >= self.seconds:
            save_stage(self.path, self.specification, state())
            self.last = time.monotonic()

    def remove(self) -> None:
        """Remove the file of a training that has ended."""
        if self.writes:
            self.path.unlink(missing_ok=True)
