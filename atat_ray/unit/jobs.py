"""Jobs: the independent parts of a stage, and the function that runs them.

A stage of one process runs its jobs serially; ``distributed.run_jobs_on_workers`` runs them as Ray
tasks.
"""

from collections.abc import Callable, Sequence
from typing import Any

Job = Callable[[], Any]
"""Writes large results to a file and returns the rest; a second call returns the same."""
RunJobs = Callable[[Sequence[Job]], list[Any]]
"""Runs jobs in any order and lists their results in the order of the jobs."""


def run_serially(jobs: Sequence[Job]) -> list[Any]:
    """Run jobs one after another in this process."""
    return [job() for job in jobs]
