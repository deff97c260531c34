"""Conduct of a trial: numbers by arm, order, machines and deviations from the protocol."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import schema
from analysis.pipeline import integrity
from analysis.pipeline.integrity import check_integrity, content_deviations, sample_ratio_p
from analysis.pipeline.primary import Results
from analysis.record.from_units import record_from_units
from analysis.secondary.integrity import Conduct, table


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


def test_units_of_different_processors_are_counted_and_pending_ones_are_not() -> None:
    units = campaign()
    units["instruction_set"] = ["AVX512"] * (len(units) - 2) + ["AVX2", ""]
    units.loc[len(units) - 1, "status"] = "pending"
    options = {"per_arm": {"a": 4, "b": 4, "c": 4}, "seed": 1}
    found = check_integrity(units, units, **options).computed_on
    n = len(units) - 2
    assert found == (
        f"units were computed on different instruction sets: AVX2 (1 unit), AVX512 ({n} units)",
    )
    assert found[0] in table_of(units)
    assert "NO, their numbers may differ" in table_of(units)
    assert "no difference recorded" in table_of(campaign())
    units.loc[len(units) - 1, "status"] = "finished"
    assert "not recorded (1 unit)" in check_integrity(units, units, **options).computed_on[0]


def table_of(units: pd.DataFrame) -> str:
    found = check_integrity(units, units, per_arm={"a": 4, "b": 4, "c": 4}, seed=1)
    return str(table(cast(Results, None), Conduct(found, None)).rows)


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


def test_units_that_read_other_data_or_models_than_the_record_lists_are_named() -> None:
    units = campaign().assign(data_sha256="d", **{"standard/att_acc_1": 0.5})
    record = record_from_units(units, outcome="standard/att_acc_1", arm="a", against="b")
    assets = [{"block": "b0", "asset": "evaluation models", "content_sha256": "e"}]
    record = replace(record, assets=assets, tags=record.tags | {schema.INPUTS: '{"data": "d"}'})
    assert content_deviations(record) == []
    other = units.copy()
    other.loc[0, "data_sha256"] = "swapped"
    other.loc[1, "evaluation_sha256"] = "other"
    assert content_deviations(replace(record, units=other)) == [
        "b0/0 was measured on other data than were registered",
        "b0/1 was measured by other evaluation models than the record lists",
    ]
    per_arm = {"a": 4, "b": 4, "c": 4}
    found = check_integrity(other, other, per_arm=per_arm, seed=1).deviations
    assert "units of block b0 were measured with different data" in found
    for text in ("{", "[1]", '{"a": [1]}', "[" * 100_000):
        broken = replace(record, tags=record.tags | {schema.INPUTS: text})
        assert content_deviations(broken) == [
            "the record's list of registered inputs cannot be read"
        ]


def test_one_unit_and_several_units_are_told_in_their_number() -> None:
    units = campaign()
    units.loc[0, "status"] = schema.PENDING
    per_arm = {"a": 4, "b": 4, "c": 4}
    one = check_integrity(units, units, per_arm=per_arm, seed=1)
    assert one.deviations == ("1 of 24 units is not finished",)
    assert str(one).endswith("; 1 deviation")
    units.loc[1, "status"] = schema.PENDING
    two = check_integrity(units, units, per_arm=per_arm, seed=1)
    assert two.deviations == ("2 of 24 units are not finished",)
    assert str(replace(two, deviations=())).endswith("; 0 deviations")
