"""Checkpoints, from which an interrupted training resumes with bit-identical results."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atat_ray.utils.stage_files import load_stage, save_stage


class Checkpoint:
    """The file of a training's state, written at most every ``seconds`` seconds.

    Args:
        path: of the file; with several nodes, in a folder that all of them share.
        specification: hash of the training; a file with another hash is ignored.
        seconds: shortest time between two writes, so that short trainings write nothing.
        writes: whether this process writes; with several workers, only one does.
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
        """Read the state; None if there is no file of this specification."""
        return load_stage(self.path, self.specification)

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write the state if ``seconds`` have passed since the last write."""
        if self.writes and time.monotonic() - self.last >= self.seconds:
            save_stage(self.path, self.specification, state())
            self.last = time.monotonic()

    def remove(self) -> None:
        """Remove the file after the training has ended."""
        if self.writes:
            self.path.unlink(missing_ok=True)
