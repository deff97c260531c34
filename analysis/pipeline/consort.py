"""Flow of units: how many were allocated, started, finished, failed and analysed (CONSORT)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis import schema


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowRow:
    """Counts of one arm; ``pending`` counts units that have not started or are still running."""

    arm: str
    allocated: int
    started: int
    finished: int
    failed: int
    pending: int
    analysed: int  # finished with the primary outcome measured

    def __str__(self) -> str:
        return (
            f"{self.arm}: {self.allocated} allocated, {self.started} started, {self.finished} "
            f"finished, {self.failed} failed, {self.pending} pending, {self.analysed} analysed"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """Counts by arm in the order of the protocol, their total, and the reason of each failure."""

    rows: tuple[FlowRow, ...]
    total: FlowRow
    failures: tuple[tuple[str, str, str], ...]  # (unit_id, arm, reason)

    def __str__(self) -> str:
        return "\n".join(map(str, (*self.rows, self.total)))


def count_flow(units: pd.DataFrame, outcome: str, arms: list[str]) -> Flow:
    """Count units by arm and status.

    Raises:
        ValueError: the counts do not add up, or a unit is of an arm outside the protocol.
    """
    rows = tuple(_row(arm, units.loc[units["arm"] == arm], outcome) for arm in arms)
    total = _row("total", units, outcome)
    for row in (*rows, total):
        _check_row(row)
    for name in ("allocated", "started", "finished", "failed", "pending", "analysed"):
        if sum(getattr(row, name) for row in rows) != getattr(total, name):
            unknown = sorted(set(units["arm"]) - set(arms))
            raise ValueError(
                f"{name} units of the arms {arms} do not add up to the total "
                f"{getattr(total, name)}; arms not in the protocol: {unknown}"
            )
    failed = units.loc[units["status"] == schema.FAILED]
    failures = tuple(
        (str(r["unit_id"]), str(r["arm"]), str(r["reason"]) or "no reason recorded")
        for r in failed.to_dict("records")
    )
    return Flow(rows=rows, total=total, failures=failures)


def _row(arm: str, units: pd.DataFrame, outcome: str) -> FlowRow:
    finished = units["status"] == schema.FINISHED
    measured = units[outcome].notna() if outcome in units else pd.Series(False, index=units.index)
    return FlowRow(
        arm=arm,
        allocated=len(units),
        started=int(np.count_nonzero(units["start_order"].notna())),
        finished=int(np.count_nonzero(finished)),
        failed=int(np.count_nonzero(units["status"] == schema.FAILED)),
        pending=int(np.count_nonzero(units["status"] == schema.PENDING)),
        analysed=int(np.count_nonzero(finished & measured)),
    )


def _check_row(row: FlowRow) -> None:
    if row.allocated != row.finished + row.failed + row.pending:
        raise ValueError(
            f"flow of {row.arm} does not add up: {row.allocated} allocated, but {row.finished} "
            f"finished + {row.failed} failed + {row.pending} pending"
        )
    if not row.finished + row.failed <= row.started <= row.allocated:
        raise ValueError(
            f"flow of {row.arm} does not add up: {row.started} started, but {row.finished} "
            f"finished + {row.failed} failed of {row.allocated} allocated"
        )
