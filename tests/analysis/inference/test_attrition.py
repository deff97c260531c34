"""Missing units: Fisher's test and both kinds of bounds, against enumeration and hand algebra."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.inference.attrition import attrition_bounds
from analysis.inference.table_checks import NotEstimable
from analysis.pipeline import integrity
from analysis.pipeline.integrity import check_integrity, sample_ratio_p

OUTCOME = "standard/att_acc_1"
PAIR = {"arm": "a", "against": "b"}


def lost(a: list[float], b: list[float]) -> pd.DataFrame:
    rows = [("a", v) for v in a] + [("b", v) for v in b]
    table = pd.DataFrame(rows, columns=["arm", OUTCOME])
    return table.assign(unit_id=[f"u{i}" for i in range(len(table))])


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
    assert found.lee_trims == "a"
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
    assert (found.fisher_p, found.lee_trims) == (1.0, "")
    with pytest.raises(NotEstimable, match="no unit of a has an outcome"):
        attrition_bounds(lost([float("nan")], [0.1]), OUTCOME, **PAIR)


def campaign(nodes: bool = False, late: bool = False, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for b in range(2):
        arms = rng.permutation(np.repeat(["a", "b", "c"], 4))
        order = rng.permutation(12) if not late else np.argsort(np.argsort(arms, kind="stable"))
        rows += [
            {"unit_id": f"b{b}/{i}", "block": f"b{b}", "arm": a, "start_order": 1 + 12 * b + o,
             "node": f"n{int(a == 'a')}" if nodes else "n", "status": "finished",
             "evaluation_sha256": "e", "prior_sha256": "p"}
            for i, (a, o) in enumerate(zip(arms, order, strict=True))
        ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_trial_that_ran_as_drawn_shows_no_imbalance() -> None:
    units = campaign()
    found = check_integrity(units, units, per_arm={"a": 4, "b": 4, "c": 4}, seed=1)
    assert found.allocated_as_registered
    assert found.deviations == ()
    assert found.analysed_p == pytest.approx(1)
    assert (found.nodes, found.node_p) == (1, None)


def test_order_p_keeps_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "_DRAWS", 999)
    options = {"per_arm": {"a": 4, "b": 4, "c": 4}, "seed": 1}
    drawn = [
        check_integrity(u, u, **options).order_p for u in (campaign(seed=s) for s in range(80))
    ]
    assert np.mean(np.array(drawn, dtype=float) <= 0.1) < 0.2


def test_arms_apart_in_time_or_on_other_machines_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(integrity, "_DRAWS", 1999)
    options = {"per_arm": {"a": 4, "b": 4, "c": 4}, "seed": 1}
    units = campaign(nodes=True, late=True)
    found = check_integrity(units, units, **options)
    assert found.order_p == 1 / 2000
    assert found.node_p == 1 / 2000
    units.loc[0, "prior_sha256"] = "other"
    units.loc[1, "status"] = "failed"
    units["failed_before"] = ["", "", "ValueError: no", *[""] * (len(units) - 3)]
    broken = check_integrity(units.iloc[:-1], units, **options)
    assert not broken.allocated_as_registered
    assert "1 of 23 units failed" in broken.deviations
    assert [d.split(",")[0] for d in broken.deviations if "ValueError: no" in d] == [
        f"{units.loc[2, 'unit_id']} ({units.loc[2, 'arm']}) failed and was run again on request"
    ]
    assert "units of block b0 were measured with different priors" in broken.deviations


def test_sample_ratio_equals_binomial_and_chi_squared() -> None:
    assert sample_ratio_p([3, 12], [4, 4]) == pytest.approx(stats.binomtest(3, 15).pvalue)
    found = sample_ratio_p([3, 12, 9], [8, 8, 8])
    assert found == pytest.approx(stats.chisquare([3, 12, 9]).pvalue)
    assert sample_ratio_p([0, 0], [4, 4]) is None


def test_unequal_arms_as_registered_are_no_imbalance() -> None:
    units = campaign()
    units = units.loc[(units["arm"] != "a") | (units.groupby(["block", "arm"]).cumcount() == 0)]
    found = check_integrity(units, units, per_arm={"a": 1, "b": 4, "c": 4}, seed=1)
    assert found.allocated_as_registered
    assert found.analysed_p == pytest.approx(1)
    assert sample_ratio_p([3, 12], [1, 4]) == pytest.approx(1)
    wrong = check_integrity(units, units, per_arm={"a": 4, "b": 4, "c": 4}, seed=1)
    assert not wrong.allocated_as_registered


def test_a_missing_distance_lies_between_0_and_2_and_a_duration_is_unbounded() -> None:
    units = lost([0.5, 0.7], [1.2, float("nan")])
    distance = units.rename(columns={OUTCOME: "standard/delta_eval"})
    found = attrition_bounds(distance, "standard/delta_eval", **PAIR)
    assert (found.worst_low, found.worst_high) == pytest.approx((0.6 - 3.2 / 2, 0.6 - 1.2 / 2))
    with pytest.raises(NotEstimable, match="no largest value"):
        attrition_bounds(units.rename(columns={OUTCOME: "seconds/train"}), "seconds/train", **PAIR)
