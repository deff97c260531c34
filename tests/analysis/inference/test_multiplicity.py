"""Several outcomes and arms: adjustments against statsmodels, scipy and brute force."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.inference.multiplicity import _dunnett_tail, benjamini_hochberg, dunnett, max_t
from analysis.inference.randomisation import randomisation_test
from analysis.inference.table_checks import NotEstimable

OUTCOME = "standard/att_acc_1"
MakeTable = Callable[..., pd.DataFrame]


def test_benjamini_hochberg_equals_statsmodels() -> None:
    rng = np.random.default_rng(0)
    for m in (1, 2, 7, 30):
        p = np.round(rng.uniform(size=m) ** 3, 2)  # with ties
        np.testing.assert_allclose(benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1])
    with pytest.raises(ValueError, match=r"must be in .0, 1., got 1.2"):
        benjamini_hochberg(np.array([0.1, 1.2]))


def test_max_t_equals_brute_force_step_down() -> None:
    """Westfall & Young (1993), Algorithm 4.1, each reallocation by itself."""
    rng = np.random.default_rng(4)
    y = rng.uniform(size=(8, 3))
    y[:4, 0] -= 0.4
    y[:, 2] = 0.7 * y[:, 0] + 0.3 * y[:, 2]
    y = (y - y.min()) / np.ptp(y)
    values = []
    for chosen in combinations(range(8), 4):
        inside = np.isin(np.arange(8), chosen)
        values.append(np.abs(y[inside].mean(axis=0) - y[~inside].mean(axis=0)))
    reference = np.array(values) / np.sqrt(np.mean(np.array(values) ** 2, axis=0))
    own = reference[0]
    order = np.argsort(-own)
    expected, largest = {}, 0.0
    for i, j in enumerate(order):
        largest = max(largest, np.mean(reference[:, order[i:]].max(axis=1) >= own[j] - 1e-9))
        expected[f"o{j}"] = largest
    frame = pd.DataFrame(y, columns=["o0", "o1", "o2"])
    frame = frame.assign(unit_id=range(8), block="x", arm=np.repeat(["a", "b"], 4))
    found = max_t(frame, ["o0", "o1", "o2"], arm="a", against="b", seed=1)
    assert found.adjusted == pytest.approx(expected)
    single = randomisation_test(frame, "o1", arm="a", against="b", seed=1)
    assert found.p["o1"] == pytest.approx(single.p)


def test_max_t_adjusts_neither_one_outcome_nor_copies_of_it(table: MakeTable) -> None:
    units = table(3, 2, means=(0.74, 0.8)).assign(copy=lambda t: 0.5 * t[OUTCOME])
    one = max_t(units, [OUTCOME], arm="a", against="b", seed=1)
    two = max_t(units, [OUTCOME, "copy"], arm="a", against="b", seed=1)
    assert one.adjusted[OUTCOME] == one.p[OUTCOME]
    assert two.adjusted[OUTCOME] == pytest.approx(one.p[OUTCOME])
    assert "max-T over 2 outcomes" in str(two)


def three_arms(per_cell: int, blocks: int = 1, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        (f"b{b}/{arm}{i}", f"b{b}", arm, rng.normal(mean + 0.1 * b, 0.05))
        for b in range(blocks)
        for arm, mean in (("c", 0.5), ("x", 0.45), ("y", 0.4))
        for i in range(per_cell)
    ]
    return pd.DataFrame(rows, columns=["unit_id", "block", "arm", OUTCOME])


def test_dunnett_in_one_block_equals_scipy() -> None:
    units = three_arms(6)
    groups = {a: 100 * units.loc[units["arm"] == a, OUTCOME] for a in "cxy"}
    scipys = stats.dunnett(groups["x"], groups["y"], control=groups["c"], rng=1)
    bounds = scipys.confidence_interval(0.95)
    found = dunnett(units, OUTCOME, arms=["x", "y"], against="c")
    assert list(found.p.values()) == pytest.approx(list(scipys.pvalue), abs=1e-3)
    assert list(found.low.values()) == pytest.approx(list(bounds.low), abs=0.03)
    assert found.df == 15


def test_dunnett_critical_values_equal_published_ones() -> None:
    """Dunnett (1964), Table II: two-sided 5 % points for 10 and 20 degrees of freedom."""
    from analysis.inference.multiplicity import _dunnett_critical

    for df, m, value in ((10, 2, 2.57), (10, 3, 2.76), (20, 2, 2.38), (20, 4, 2.65)):
        assert _dunnett_critical(0.95, m, 0.5, df) == pytest.approx(value, abs=0.006)


@pytest.mark.parametrize("df", [1, 3, 40])
@pytest.mark.parametrize("t", [0.5, 5.0, 20.0, 1e3])
def test_dunnetts_tail_of_one_arm_is_that_of_t(df: int, t: float) -> None:
    found = _dunnett_tail(t, 1, 0.0, df)
    assert found == pytest.approx(2 * stats.t.sf(t, df), rel=1e-6)
    assert found < _dunnett_tail(t, 2, 0.5, df) < 2 * found


def test_dunnett_ignores_block_levels_and_needs_every_arm_in_every_block() -> None:
    units = three_arms(4, blocks=2)
    moved = units.assign(**{OUTCOME: units[OUTCOME] - 0.2 * (units["block"] == "b1")})
    first, second = (dunnett(u, OUTCOME, arms=["x", "y"], against="c") for u in (units, moved))
    assert first.p == pytest.approx(second.p)
    gone = units[~((units["arm"] == "y") & (units["block"] == "b1"))]
    with pytest.raises(NotEstimable, match="every arm in every block"):
        dunnett(gone, OUTCOME, arms=["x", "y"], against="c")
