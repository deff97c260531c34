"""Verdicts on every kind of estimand, in words, and the error of the rule at the margin."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.claims import judge
from analysis.inference.difference import difference_in_means
from analysis.planning.claim_chances import verdict_chances

LEAK, STUDENTS, CLEAN = "standard/att_acc_1", "students/att_acc_1", "clean_acc"
ARMS = ("control", "a1", "a2", "p1", "p2")
CONTRASTS = {
    "primary": {"arm": "a1", "against": "control"},
    "other": {"arm": "p1", "against": "control"},
}
MATCHED = {"curve": ["a1", "a2"], "against": ["p1", "p2"], "control": "control", "loss": 0.04}
ESTIMANDS = {
    "contrast": {"contrast": {"contrast": "primary", "outcome": None}},
    "matched": {"matched": MATCHED},
    "ratio": {
        "ratio": {
            "numerator": {"contrast": "primary", "outcome": STUDENTS},
            "denominator": {"contrast": "primary", "outcome": None},
        }
    },
    "slope": {"slope": {"of": CLEAN, "beside": [], "arms": None, "outcome": None}},
}
# by arm: clean accuracy, leakage, leakage to students
MEANS = {
    "control": (0.99, 0.90, 0.91),
    "a1": (0.97, 0.80, 0.86),
    "a2": (0.93, 0.70, 0.80),
    "p1": (0.96, 0.86, 0.90),
    "p2": (0.92, 0.82, 0.85),
}
TRUTH = {
    arm: dict(zip((CLEAN, LEAK, STUDENTS), means, strict=True)) for arm, means in MEANS.items()
}
SPREAD = {CLEAN: 0.01, LEAK: 0.04, STUDENTS: 0.03}


def protocol(kind, direction="below", margin=-0.05):
    claim = {
        "sentence": "Something leaks less.",
        "paper": "It does.",
        "where": "Table 1",
        "estimand": ESTIMANDS[kind],
        "direction": direction,
        "margin": margin,
    }
    return {"claims": {"one": claim}, "contrasts": CONTRASTS, "outcome": LEAK, "alpha": 0.05}


def frame(per_cell=6, blocks=2, arms=ARMS):
    rows = [
        (f"b{b}/{arm}/{i}", f"b{b}", arm)
        for b in range(blocks)
        for arm in arms
        for i in range(per_cell)
    ]
    return pd.DataFrame(rows, columns=["unit_id", "block", "arm"])


def drawn(seed=0, per_cell=6):
    rng, units = np.random.default_rng(seed), frame(per_cell)
    for column in (CLEAN, LEAK, STUDENTS):
        centre = units["arm"].map(lambda arm, c=column: TRUTH[arm][c])
        units[column] = np.clip(centre + SPREAD[column] * rng.normal(size=len(units)), 0, 1)
    return units


def test_a_contrast_is_decided_by_the_interval_of_the_report():
    units = drawn()
    found = judge(units, protocol("contrast"), "one", level=0.95)
    same = difference_in_means(units, LEAK, arm="a1", against="control")
    assert found.found.confidence.pieces == ((same.low, same.high),)
    assert found.verdict == "supported"
    assert str(found).startswith(
        "Supported: AttAcc@1 (standard inversion) of a1 minus that of control is -1"
    )
    assert str(found).endswith("pp (95% confidence interval "
                               f"{same.low:+.1f} to {same.high:+.1f}), wholly below the margin, "
                               "-5.0 pp.")  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "direction", "margin", "verdict"),
    [
        ("contrast", "above", -0.05, "contradicted"),
        ("contrast", "below", -0.10, "undecided"),
        ("contrast", "within", 0.05, "contradicted"),
        ("contrast", "within", 0.30, "supported"),
        ("matched", "below", 0.0, "supported"),
        ("matched", "above", 0.0, "contradicted"),
        ("ratio", "below", 1.0, "supported"),
        ("ratio", "above", 1.0, "contradicted"),
        ("slope", "below", 9.0, "supported"),
        ("slope", "above", 9.0, "contradicted"),
        ("slope", "within", 0.5, "undecided"),
    ],
)
def test_every_kind_of_estimand_is_decided_by_its_margin(kind, direction, margin, verdict):
    found = judge(drawn(per_cell=24), protocol(kind, direction, margin), "one", level=0.95)
    assert found.verdict == verdict, str(found)
    assert str(found).startswith(verdict.capitalize())


def test_nothing_is_decided_while_units_are_pending():
    found = judge(
        drawn(), protocol("contrast"), "one", level=0.95, pending="2 units have not ended"
    )
    assert found.verdict == "undecided"
    assert str(found).startswith("Undecided: 2 units have not ended. So far: AttAcc@1")


def test_what_cannot_be_estimated_is_undecided_and_says_why():
    found = judge(drawn().drop(columns=STUDENTS), protocol("ratio"), "one", level=0.95)
    assert found.verdict == "undecided"
    assert str(found) == "Undecided: AttAcc@1 (students inversion) was not measured."


def test_a_ratio_has_fiellers_set_of_the_two_effects():
    units = drawn(per_cell=24)
    found = judge(units, protocol("ratio"), "one", level=0.95).found
    effects = [
        difference_in_means(units, column, arm="a1", against="control").estimate
        for column in (STUDENTS, LEAK)
    ]
    assert found.value == pytest.approx(effects[0] / effects[1])
    assert found.value in found.confidence


def test_a_ratio_to_an_effect_that_may_be_zero_has_an_unbounded_set():
    units = drawn()
    mean = units.groupby("arm")[LEAK].transform("mean")
    units[LEAK] = units[LEAK] - mean + 0.8
    found = judge(units, protocol("ratio"), "one", level=0.95)
    assert found.verdict == "undecided"
    assert "unbounded" in str(found)


def test_the_slope_has_errors_that_count_arms_and_not_units():
    few, many = (
        judge(drawn(per_cell=n), protocol("slope"), "one", level=0.95).found for n in (6, 60)
    )
    width = [f.confidence.pieces[0][1] - f.confidence.pieces[0][0] for f in (few, many)]
    assert width[1] > width[0] / 3  # ten times the units would shrink it by sqrt(10) > 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["contrast", "matched", "ratio"])
def test_a_truth_at_the_margin_is_decided_in_at_most_5_percent_of_trials(kind):
    margins = {"contrast": -0.10, "matched": -0.10, "ratio": 0.5}
    chances = verdict_chances(
        frame(per_cell=12),
        protocol(kind, margin=margins[kind]),
        "one",
        TRUTH,
        spread=SPREAD,
        correlation=0.4,
        trials=2000,
        seed=5,
    )
    decided = 1 - chances.shares["undecided"]
    assert decided < 0.05 + 3 * (0.05 * 0.95 / 2000) ** 0.5


def test_chances_add_up_and_follow_the_truth():
    options = {"spread": SPREAD, "correlation": 0.4, "trials": 40, "seed": 1}
    far = {**TRUTH, "a1": {**TRUTH["a1"], LEAK: 0.6}}
    near = {**TRUTH, "a1": {**TRUTH["a1"], LEAK: 0.9}}
    supported = verdict_chances(frame(12), protocol("contrast"), "one", far, **options)
    contradicted = verdict_chances(frame(12), protocol("contrast"), "one", near, **options)
    assert sum(supported.shares.values()) == pytest.approx(1)
    assert supported.shares["supported"] > 0.95
    assert contradicted.shares["contradicted"] > 0.9
