"""Flow counts add up for every mixture of unit states."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.pipeline.consort import count_flow

OUTCOME = "standard/att_acc_1"


def frame(states: list[tuple[str, str]]) -> pd.DataFrame:
    rows = [
        {
            "unit_id": f"u{i}",
            "arm": arm,
            "status": status,
            "reason": "out of memory" if status == "failed" else "",
            "start_order": pd.NA if status == "pending" else i + 1,
            OUTCOME: 0.5 if status == "finished" else np.nan,
        }
        for i, (arm, status) in enumerate(states)
    ]
    columns = ["unit_id", "arm", "status", "reason", "start_order", OUTCOME]
    return pd.DataFrame(rows, columns=columns)


STATES = st.tuples(st.sampled_from("abc"), st.sampled_from(["finished", "failed", "pending"]))


@given(st.lists(STATES, max_size=30))
def test_counts_add_up_over_arms_and_over_states(states: list[tuple[str, str]]) -> None:
    flow = count_flow(frame(states), OUTCOME, ["a", "b", "c"])
    assert flow.total.allocated == len(states) == sum(r.allocated for r in flow.rows)
    for row in (*flow.rows, flow.total):
        assert row.allocated == row.finished + row.failed + row.pending
        assert row.analysed == row.finished
    assert len(flow.failures) == flow.total.failed


def test_failed_units_stay_in_their_arm_with_their_reason() -> None:
    flow = count_flow(
        frame([("a", "failed"), ("a", "finished"), ("b", "finished")]), OUTCOME, ["a", "b"]
    )
    assert flow.rows[0].allocated == 2
    assert flow.failures == (("u0", "a", "out of memory"),)
    assert "1 failed" in str(flow)


def test_a_finished_unit_without_its_outcome_is_not_analysed() -> None:
    units = frame([("a", "finished"), ("a", "finished")])
    units.loc[0, OUTCOME] = np.nan
    assert count_flow(units, OUTCOME, ["a"]).total.analysed == 1


def test_an_arm_outside_the_protocol_is_refused() -> None:
    units = frame([("a", "finished"), ("stranger", "finished")])
    with pytest.raises(ValueError, match="do not add up .* not in the protocol: .'stranger'."):
        count_flow(units, OUTCOME, ["a"])


def test_an_unknown_status_is_refused() -> None:
    with pytest.raises(ValueError, match="does not add up: 1 allocated, but 0 finished"):
        count_flow(frame([("a", "lost")]), OUTCOME, ["a"])


def test_a_finished_unit_that_never_started_is_refused() -> None:
    units = frame([("a", "finished")]).assign(start_order=pd.NA)
    with pytest.raises(ValueError, match="0 started"):
        count_flow(units, OUTCOME, ["a"])
