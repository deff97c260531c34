"""Missing units: Fisher's test and both kinds of bounds, against enumeration and hand algebra."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.inference.attrition import attrition_bounds
from analysis.inference.table_checks import NotEstimable

OUTCOME = "standard/att_acc_1"
PAIR = {"arm": "a", "against": "b"}


def lost(a: list[float], b: list[float]) -> pd.DataFrame:
    rows = [("a", v) for v in a] + [("b", v) for v in b]
    table = pd.DataFrame(rows, columns=["arm", OUTCOME])
    return table.assign(block="x", unit_id=[f"u{i}" for i in range(len(table))])


def test_worst_case_is_the_extreme_over_all_imputations() -> None:
    nan = float("nan")
    units = lost([0.5, 0.7, nan, nan], [0.2, 0.4, 0.3, nan])
    found = attrition_bounds(units, OUTCOME, **PAIR)
    effects = []
    for imputed in product([0, 0.5, 1], repeat=3):
        y = units[OUTCOME].to_numpy().copy()
        y[np.isnan(y)] = imputed
        effects.append(100 * (y[:4].mean() - y[4:].mean()))
    assert (found.worst_low, found.worst_high) == pytest.approx((min(effects), max(effects)))
    assert found.fisher_p == pytest.approx(stats.fisher_exact([[2, 2], [1, 3]])[1])


def test_lee_trims_the_arm_that_lost_fewer_by_the_excess() -> None:
    nan = float("nan")
    units = lost([0.1, 0.2, 0.3, 0.4], [0.5, 0.6, nan, nan])
    found = attrition_bounds(units, OUTCOME, **PAIR)
    assert found.lee_trims == ("a",)
    assert (found.lee_low, found.lee_high) == pytest.approx((15 - 55, 35 - 55))
    back = attrition_bounds(units, OUTCOME, arm="b", against="a")
    assert (back.lee_low, back.lee_high) == pytest.approx((-found.lee_high, -found.lee_low))


def test_fractions_of_a_unit_are_weighted_in_lee_bounds() -> None:
    units = lost([0.1, 0.2, 0.4], [0.5, float("nan")])  # half of b is left, so 1.5 units of a
    found = attrition_bounds(units, OUTCOME, **PAIR)
    assert found.lee_low == pytest.approx(100 * ((0.1 + 0.5 * 0.2) / 1.5 - 0.5))
    assert found.lee_high == pytest.approx(100 * ((0.4 + 0.5 * 0.2) / 1.5 - 0.5))


def test_without_loss_every_bound_is_the_difference() -> None:
    found = attrition_bounds(lost([0.1, 0.3], [0.5, 0.7]), OUTCOME, **PAIR)
    bounds = [found.worst_low, found.worst_high, found.lee_low, found.lee_high]
    assert bounds == pytest.approx([-40] * 4)
    assert (found.fisher_p, found.lee_trims) == (1.0, ())


def test_a_missing_distance_lies_between_0_and_2_and_a_duration_is_unbounded() -> None:
    units = lost([0.5, 0.7], [1.2, float("nan")])
    distance = units.rename(columns={OUTCOME: "standard/delta_eval"})
    found = attrition_bounds(distance, "standard/delta_eval", **PAIR)
    assert (found.worst_low, found.worst_high) == pytest.approx((0.6 - 3.2 / 2, 0.6 - 1.2 / 2))
    duration = units.rename(columns={OUTCOME: "seconds/train"})
    found = attrition_bounds(duration, "seconds/train", **PAIR)
    assert (found.worst_low, found.worst_high, found.fisher_p) == (None, None, 1.0)


def test_bounds_compare_arms_within_blocks() -> None:
    """Two blocks 30 points apart that lose a run of opposite arms have no false difference."""
    rows = [
        (f"{block}{arm}{i}", block, arm, level - 0.1 * (arm == "a") + 0.01 * i)
        for block, level in (("x", 0.9), ("y", 0.6))
        for arm in "ab"
        for i in range(4)
    ]
    units = pd.DataFrame(rows, columns=["unit_id", "block", "arm", OUTCOME])
    whole = attrition_bounds(units, OUTCOME, **PAIR)
    assert (whole.lee_low, whole.lee_high) == pytest.approx((-10, -10))
    units.loc[units["unit_id"].isin(["xa0", "yb0"]), OUTCOME] = float("nan")
    found = attrition_bounds(units, OUTCOME, **PAIR)
    assert found.lee_trims == ("a", "b")
    assert found.lee_low is not None
    assert found.lee_high is not None
    # -10 to -9 in block x, where b is trimmed, and -11 to -10 in block y, where a is
    assert (found.lee_low, found.lee_high) == pytest.approx((-10.5, -9.5))
    pending = units.loc[~((units["block"] == "y") & (units["arm"] == "a"))]
    alone = attrition_bounds(pending, OUTCOME, **PAIR)
    x = attrition_bounds(units.loc[units["block"] == "x"], OUTCOME, **PAIR)
    assert (alone.worst_low, alone.lee_low) == (x.worst_low, x.lee_low)


def test_an_arm_without_any_outcome_has_a_failure_p_and_worst_case() -> None:
    units = lost([float("nan")] * 4, [0.5, 0.6, 0.7, 0.8])
    found = attrition_bounds(units, OUTCOME, **PAIR)
    assert found.fisher_p == pytest.approx(2 / 70)
    assert (found.worst_low, found.worst_high) == pytest.approx((-65, 35))
    assert (found.lee_low, found.lee_high, found.lee_trims) == (None, None, ())
    assert "Lee bounds not estimable" in str(found)
    with pytest.raises(NotEstimable, match="no block holds units of both a and b"):
        attrition_bounds(units.loc[units["arm"] == "a"], OUTCOME, **PAIR)
