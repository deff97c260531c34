"""Two curves of doses at equal loss of clean accuracy: values by hand, errors by the bootstrap."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.claims.matched_curves import compare_curves
from analysis.inference.table_checks import NotEstimable

LEAK, CLEAN = "standard/att_acc_1", "clean_acc"
# mean (clean accuracy, leakage): the curves have the heights 0.75 and 0.85 at accuracy 0.95
MEANS = {
    "control": (0.99, 0.90),
    "a1": (0.97, 0.80),
    "a2": (0.93, 0.70),
    "p1": (0.96, 0.86),
    "p2": (0.92, 0.82),
}
CURVES = {"curve": ["a1", "a2"], "against": ["p2", "p1"], "control": "control"}


def table(rng, per_cell=12, blocks=2, sd=(0.01, 0.03), means=MEANS):
    rows = []
    for b in range(blocks):
        for arm, centre in means.items():
            shared = rng.normal(size=per_cell)
            own = rng.normal(size=per_cell)
            clean = np.clip(centre[0] - 0.002 * b + sd[0] * shared, 0, 1)
            leak = np.clip(centre[1] - 0.05 * b + sd[1] * (0.6 * shared + 0.8 * own), 0, 1)
            rows += [(f"b{b}/{arm}/{i}", f"b{b}", arm, clean[i], leak[i]) for i in range(per_cell)]
    return pd.DataFrame(rows, columns=["unit_id", "block", "arm", CLEAN, LEAK])


def exact_table(means=MEANS):
    """Units that scatter about the means so that the means are exact."""
    rows = [
        (f"{arm}/{sign}", "b", arm, clean + sign * 0.001, leak + sign * 0.01)
        for arm, (clean, leak) in means.items()
        for sign in (-1, 1)
    ]
    return pd.DataFrame(rows, columns=["unit_id", "block", "arm", CLEAN, LEAK])


def test_heights_are_interpolated_between_the_means_of_the_doses():
    found = compare_curves(exact_table(), LEAK, CLEAN, **CURVES, loss=0.04)
    assert found.accuracy == pytest.approx(95.0)
    assert found.heights == pytest.approx((75.0, 85.0))
    assert found.estimate == pytest.approx(-10.0)


def test_a_loss_between_the_control_and_the_first_dose_uses_the_control():
    found = compare_curves(exact_table(), LEAK, CLEAN, **CURVES, loss=0.01)
    assert found.heights == pytest.approx((85.0, 90 - 4 / 3))


def test_the_order_of_the_arms_has_no_influence():
    units = table(np.random.default_rng(0))
    one = compare_curves(units, LEAK, CLEAN, **CURVES, loss=0.04)
    turned = {**CURVES, "curve": ["a2", "a1"], "against": ["p1", "p2"]}
    other = compare_curves(units, LEAK, CLEAN, **turned, loss=0.04)
    assert (one.estimate, one.se) == pytest.approx((other.estimate, other.se))


def test_swapped_curves_have_the_opposite_difference_and_the_same_error():
    units = table(np.random.default_rng(1))
    one = compare_curves(units, LEAK, CLEAN, **CURVES, loss=0.03)
    swapped = {"curve": CURVES["against"], "against": CURVES["curve"], "control": "control"}
    other = compare_curves(units, LEAK, CLEAN, **swapped, loss=0.03)
    assert (one.estimate, one.se) == pytest.approx((-other.estimate, other.se))


def test_the_standard_error_is_that_of_the_bootstrap():
    rng = np.random.default_rng(2)
    units = table(rng, per_cell=24)
    found = compare_curves(units, LEAK, CLEAN, **CURVES, loss=0.04)
    cells = [rows for _, rows in units.groupby(["block", "arm"])]
    draws = []
    for _ in range(400):
        parts = [rows.iloc[rng.integers(len(rows), size=len(rows))] for rows in cells]
        drawn = pd.concat(parts).assign(unit_id=lambda t: range(len(t)))
        draws.append(compare_curves(drawn, LEAK, CLEAN, **CURVES, loss=0.04).estimate)
    assert np.std(draws) == pytest.approx(found.se, rel=0.12)  # 400 draws: 3.5 % error


def test_a_loss_that_no_dose_reaches_is_not_estimable():
    with pytest.raises(NotEstimable, match=r"loss of 10 points .* a1, a2: the largest .* is 6\.0"):
        compare_curves(exact_table(), LEAK, CLEAN, **CURVES, loss=0.1)


def test_doses_of_the_same_accuracy_leave_the_difference_open_there():
    means = {**MEANS, "a1": (0.9501, 0.8), "a2": (0.95, 0.7)}
    found = compare_curves(exact_table(means), LEAK, CLEAN, **CURVES, loss=0.03995)
    assert found.high - found.low > 20


@pytest.mark.parametrize("change", ["single", "missing", "constant"])
def test_units_that_allow_no_error_are_not_estimable(change):
    units = exact_table()
    if change == "single":
        units = units.iloc[1:]
    if change == "missing":
        units.loc[0, LEAK] = np.nan
    if change == "constant":
        units[[CLEAN, LEAK]] = units.groupby("arm")[[CLEAN, LEAK]].transform("mean")
    with pytest.raises(NotEstimable):
        compare_curves(units, LEAK, CLEAN, **CURVES, loss=0.04)


@pytest.mark.slow
def test_intervals_cover_the_difference_in_95_percent_of_tables():
    rng = np.random.default_rng(3)
    trials, covered = 2000, 0
    for _ in range(trials):
        found = compare_curves(table(rng, per_cell=6), LEAK, CLEAN, **CURVES, loss=0.04)
        covered += found.low <= -10 <= found.high
    assert covered / trials > 0.95 - 3 * (0.95 * 0.05 / trials) ** 0.5
