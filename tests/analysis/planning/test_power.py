"""Power and size against theory, and designs that no data can decide."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.power import TTestIndPower

from analysis.inference.group_sequential import plan_looks
from analysis.inference.randomisation import randomisation_p, randomisation_test
from analysis.planning.power import simulate


def test_power_agrees_with_the_t_test_where_outcomes_are_nearly_normal() -> None:
    sd = np.sqrt(0.5 * 0.5 / 101)
    found = simulate(
        blocks=1, per_arm=7, control=0.5, treatment=0.4, precision=100, trials=250, seed=1
    )
    theory = TTestIndPower().power(0.1 / sd, 7, 0.05)
    assert found.power == pytest.approx(theory, abs=4 * found.power_se + 0.02)
    assert found.size <= 0.05 + 3 * found.size_se
    assert found.coverage == pytest.approx(0.95, abs=4 * found.coverage_se)
    assert found.effect == pytest.approx(-10)
    assert "power" in str(found)


def test_a_design_that_no_data_can_decide_is_marked() -> None:
    found = simulate(blocks=1, per_arm=3, control=0.9, treatment=0.3, trials=50)
    assert found.smallest_p == pytest.approx(0.1)
    assert (found.hopeless, found.power) == (True, 0.0)
    assert "no data can be significant, the smallest p is 0.1" in str(found)


def test_p_of_many_columns_are_those_of_each() -> None:
    rng = np.random.default_rng(5)
    rows = [(f"{b}{i}", b, "ab"[i % 3 > 0]) for b in "xy" for i in range(6)]
    units = pd.DataFrame(rows, columns=["unit_id", "block", "arm"])
    y = rng.integers(0, 5, (len(units), 30)) / 4  # ties too
    alone = [
        randomisation_test(units.assign(y=column), "y", arm="a", against="b", seed=0).p
        for column in y.T
    ]
    assert randomisation_p(units, y, arm="a", seed=0) == pytest.approx(alone)


def test_unequal_arms_have_their_own_smallest_p_and_width() -> None:
    options = {"blocks": 1, "control": 0.8, "treatment": 0.7, "precision": 60.0, "trials": 60}
    found = simulate(per_arm=(3, 9), **options)
    assert (found.units, found.smallest_p) == (12, pytest.approx(1 / 220))
    assert found.width > simulate(per_arm=6, **options).width  # equal arms are the best


def test_planned_looks_spend_a_part_of_alpha() -> None:
    """With most of alpha spent early, the power is below that of one test at the end."""
    looks = tuple(plan_looks([1, 2], blocks=2, per_arm=(4, 4), alpha=0.05, spending="pocock"))
    design = {"blocks": 2, "per_arm": 4, "control": 0.8, "treatment": 0.73, "precision": 60.0}
    once = simulate(**design, trials=200)
    twice = simulate(**design, trials=200, looks=looks)
    assert twice.power < once.power - 0.02
    assert (twice.width, twice.coverage) == (once.width, once.coverage)
    certain = {**design, "treatment": 0.3}
    assert simulate(**certain, trials=50, looks=looks).power == 1


def test_counts_failures_and_blocks_are_simulated() -> None:
    base = {"blocks": 2, "per_arm": 3, "control": 0.7, "treatment": 0.6, "trials": 80}
    plain = simulate(**base, precision=200)
    counted = simulate(**base, precision=200, reconstructions=20)
    assert counted.width > 1.3 * plain.width  # binomial noise comes on top
    lossy = simulate(**base, precision=200, failure_rate=0.15)
    assert lossy.width > plain.width
    blocked = simulate(**base, precision=200, block_sd=1.0)
    assert blocked.width == pytest.approx(plain.width, rel=0.25)  # shifts cancel within blocks


def test_the_spread_of_a_pilot_is_simulated() -> None:
    rng = np.random.default_rng(0)
    pilot = pd.DataFrame(
        {
            "unit_id": range(40),
            "block": "x",
            "arm": np.repeat(["control", "treatment"], 20),
            "standard/att_acc_1": np.r_[rng.normal(0.7, 0.08, 20), rng.normal(0.5, 0.02, 20)],
        }
    )
    found = simulate(blocks=1, per_arm=6, control=0.7, treatment=0.6, pilot=pilot, trials=200)
    assert found.width == pytest.approx(2 * 2.45 * 100 * np.sqrt((0.08**2 + 0.02**2) / 6), rel=0.2)
    with pytest.raises(ValueError, match="two units of treatment in a block, it has 1"):
        simulate(blocks=1, per_arm=6, control=0.7, treatment=0.6, pilot=pilot.iloc[:21])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"control": 1.0}, "control is an expected fraction in .0, 1., got 1"),
        ({"per_arm": 1}, "2 units an arm or more, got 1 x 1"),
        ({"failure_rate": 1.0}, "failure_rate in .0, 1., got 60.0, 1.0"),
    ],
)
def test_impossible_plans_are_refused(change: dict[str, float], message: str) -> None:
    plan = {"blocks": 1, "per_arm": 5, "control": 0.9, "treatment": 0.5, **change}
    with pytest.raises(ValueError, match=message):
        simulate(**plan)  # type: ignore[arg-type]
