"""Non-inferiority and equivalence, against statsmodels."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
from statsmodels.stats.weightstats import ttost_ind

from analysis.inference.noninferiority import margin_test

OUTCOME = "clean_acc"
PAIR = {"arm": "a", "against": "b"}


def test_two_one_sided_tests_equal_statsmodels(table: Callable[..., pd.DataFrame]) -> None:
    distance = "standard/delta_eval"  # not a fraction, so its limits are those of t
    units = table(6, 1, means=(0.79, 0.8), seed=3).rename(columns={"standard/att_acc_1": distance})
    found = margin_test(units, distance, **PAIR, margin=0.08)
    groups = [units.loc[units["arm"] == a, distance] for a in "ab"]
    p, above, _ = ttost_ind(*groups, -0.08, 0.08, usevar="unequal")
    assert found.equivalence_p == pytest.approx(p)
    assert found.noninferiority_p == pytest.approx(above[1])
    assert found.noninferior == (found.low > -0.08)
    assert found.equivalent == (found.low > -0.08 and found.high < 0.08)


def test_verdicts_on_a_fraction_agree_with_its_bounds(table: Callable[..., pd.DataFrame]) -> None:
    units = table(6, 1, means=(0.79, 0.8), seed=3).rename(columns={"standard/att_acc_1": OUTCOME})
    for margin in (0.01, 0.04, 0.08, 0.3):
        found = margin_test(units, OUTCOME, **PAIR, margin=margin)
        assert found.noninferior == (found.low > -100 * margin)
        assert found.equivalent == (found.low > -100 * margin and found.high < 100 * margin)


def test_a_loss_beyond_the_margin_is_not_noninferior(
    table: Callable[..., pd.DataFrame],
) -> None:
    units = table(6, 1, means=(0.6, 0.9)).rename(columns={"standard/att_acc_1": OUTCOME})
    found = margin_test(units, OUTCOME, **PAIR, margin=0.02)
    assert not found.noninferior
    assert "not shown" in str(found)
    better = margin_test(units, OUTCOME, arm="b", against="a", margin=0.02)
    assert better.noninferior
    assert not better.equivalent
    assert better.superiority_p < 0.001
    with pytest.raises(ValueError, match="positive size, got -1"):
        margin_test(units, OUTCOME, **PAIR, margin=-1)
