"""Parts of a unit's stages: done one by one in this process, or by several workers at a time."""

from collections.abc import Callable, Sequence
from typing import Any

Job = Callable[[], Any]
"""Keeps what is large in a file and returns the rest; done twice, it gives the same."""
RunJobs = Callable[[Sequence[Job]], list[Any]]
"""Does jobs, in any order, and lists what they return in theirs."""


def run_serially(jobs: Sequence[Job]) -> list[Any]:
    """Do jobs in this process."""
    return [job() for job in jobs]
