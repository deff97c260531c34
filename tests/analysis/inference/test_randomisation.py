"""Randomisation test, against brute force, scipy and its own definition."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.inference import reallocation
from analysis.inference.difference import difference_in_means
from analysis.inference.randomisation import randomisation_test
from analysis.inference.table_checks import NotEstimable

OUTCOME = "standard/att_acc_1"
PAIR = {"arm": "a", "against": "b", "seed": 1}
MakeTable = Callable[..., pd.DataFrame]


def brute_force(units: pd.DataFrame, shift: float = 0.0) -> tuple[float, int]:
    """Refit every reallocation by least squares; return p and the number of allocations.

    ``shift`` (fraction) is subtracted from the units of arm a first.
    """
    treated = (units["arm"] == "a").to_numpy()
    y = units[OUTCOME].to_numpy() - shift * treated
    blocks = [np.flatnonzero(units["block"] == b) for b in units["block"].unique()]
    indicators = pd.get_dummies(units["block"]).to_numpy(dtype=float)

    def statistic(chosen: np.ndarray) -> float:
        return np.linalg.lstsq(np.column_stack([chosen, indicators]), y, rcond=None)[0][0]

    choices = [list(combinations(rows, int(treated[rows].sum()))) for rows in blocks]
    values = []
    for choice in product(*choices):
        chosen = np.zeros(len(y))
        chosen[np.concatenate(choice)] = 1
        values.append(statistic(chosen))
    observed = statistic(treated.astype(float))
    return float(np.mean(np.abs(values) >= abs(observed) - 1e-9)), len(values)


@pytest.mark.parametrize(("per_cell", "blocks", "dropped"), [(2, 2, 0), (3, 2, 0), (3, 2, 1)])
def test_p_equals_brute_force(table: MakeTable, per_cell: int, blocks: int, dropped: int) -> None:
    for seed in range(4):
        units = table(per_cell, blocks, means=(0.78, 0.8), seed=seed).iloc[dropped:]
        p, allocations = brute_force(units)
        found = randomisation_test(units, OUTCOME, **PAIR)
        assert found.p == pytest.approx(p)
        assert found.allocations == allocations


def test_four_v_four_in_two_blocks_has_4900_allocations(table: MakeTable) -> None:
    found = randomisation_test(table(4, 2), OUTCOME, **PAIR)
    assert (found.allocations, found.exact) == (4900, True)
    assert found.smallest_p == pytest.approx(2 / 4900)
    assert found.p == found.smallest_p  # complete separation


def test_one_block_equals_scipys_exact_permutation_test(table: MakeTable) -> None:
    units = table(5, 1, means=(0.78, 0.8), seed=4)
    a, b = (units.loc[units["arm"] == arm, OUTCOME] for arm in "ab")
    scipys = stats.permutation_test(
        (a, b),
        lambda x, y: np.abs(np.mean(x) - np.mean(y)),
        alternative="greater",
        vectorized=False,
    )
    assert randomisation_test(units, OUTCOME, **PAIR).p == pytest.approx(scipys.pvalue)


def test_statistic_is_the_reported_difference(table: MakeTable) -> None:
    units = table(4, 2).drop(index=[0, 9])
    estimate = difference_in_means(units, OUTCOME, arm="a", against="b").estimate
    assert randomisation_test(units, OUTCOME, **PAIR).statistic == pytest.approx(estimate)


def test_p_ignores_block_levels_row_order_and_scale(table: MakeTable) -> None:
    units = table(3, 2, means=(0.78, 0.8))
    p = randomisation_test(units, OUTCOME, **PAIR).p
    moved = units.assign(**{OUTCOME: units[OUTCOME] - 0.5 * (units["block"] == "b1")})
    assert randomisation_test(moved, OUTCOME, **PAIR).p == pytest.approx(p)
    assert randomisation_test(units.sample(frac=1, random_state=1), OUTCOME, **PAIR).p == p
    scaled = units.assign(**{OUTCOME: 1e-7 * units[OUTCOME]})
    assert randomisation_test(scaled, OUTCOME, **PAIR).p == pytest.approx(p)
    swapped = randomisation_test(units, OUTCOME, arm="b", against="a", seed=1)
    assert swapped.p == pytest.approx(p)


def test_ties_count_in_spite_of_rounding(table: MakeTable) -> None:
    units = table(4, 2, means=(0.8, 0.8), seed=2)
    units[OUTCOME] = np.round(units[OUTCOME] * 12) / 12
    p, _ = brute_force(units)
    assert randomisation_test(units, OUTCOME, **PAIR).p == pytest.approx(p)


def test_no_variation_gives_p_one(table: MakeTable) -> None:
    assert randomisation_test(table().assign(**{OUTCOME: 0.0}), OUTCOME, **PAIR).p == 1


@pytest.mark.parametrize("value", [0.0, 1e-12, 0.5, 1.0])
@pytest.mark.parametrize("studentised", [False, True])
def test_no_constant_outcome_gives_a_small_p(
    table: MakeTable, value: float, studentised: bool
) -> None:
    constant = table(3, 2).assign(**{OUTCOME: value})
    found = randomisation_test(constant, OUTCOME, **PAIR, studentised=studentised)
    assert found.p == 1
    apart = constant.assign(**{OUTCOME: np.where(constant["arm"] == "a", 0.0, value)})
    p = randomisation_test(apart, OUTCOME, **PAIR, studentised=studentised).p
    assert p == pytest.approx(2 / 400 if value else 1)  # never below the smallest possible


def test_the_test_keeps_its_size_over_all_allocations(table: MakeTable) -> None:
    units = table(3, 2, means=(0.8, 0.8), seed=5)
    values = []
    for first in combinations(range(6), 3):
        for second in combinations(range(6, 12), 3):
            arm = np.full(12, "b")
            arm[[*first, *second]] = "a"
            drawn = randomisation_test(units.assign(arm=arm), OUTCOME, **PAIR)
            values.append(drawn.p)
    assert len(values) == 400
    for alpha in (0.01, 0.05, 0.1, 0.5):
        assert np.mean(np.array(values) <= alpha) <= alpha


def test_interval_holds_the_effects_the_test_does_not_reject(table: MakeTable) -> None:
    for seed, dropped in ((1, 0), (2, 1)):
        units = table(3, 2, means=(0.7, 0.8), seed=seed).iloc[dropped:]
        found = randomisation_test(units, OUTCOME, level=0.9, **PAIR)
        for effect in (found.low, found.high):
            inward = 0.01 * (found.statistic - effect)
            assert brute_force(units, (effect + inward) / 100)[0] > 0.1
            assert brute_force(units, (effect - inward) / 100)[0] <= 0.1


def test_interval_excludes_zero_exactly_when_p_is_below_alpha(table: MakeTable) -> None:
    for seed in range(30):
        found = randomisation_test(table(3, 2, means=(0.72, 0.8), seed=seed), OUTCOME, **PAIR)
        assert (found.p <= 0.05) == (not found.low <= 0 <= found.high)


def test_interval_is_unbounded_where_the_design_is_too_small(table: MakeTable) -> None:
    found = randomisation_test(table(2, 1), OUTCOME, **PAIR)
    assert found.smallest_p == pytest.approx(1 / 3)
    assert (found.low, found.high) == (-np.inf, np.inf)


def test_sampling_agrees_with_enumeration(
    table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = table(4, 2, means=(0.76, 0.8), seed=3)
    exact = randomisation_test(units, OUTCOME, **PAIR)
    monkeypatch.setattr(reallocation, "ENUMERATION_LIMIT", 100)
    sampled = randomisation_test(units, OUTCOME, **PAIR)
    again = randomisation_test(units, OUTCOME, **PAIR)
    assert not sampled.exact
    assert sampled == again
    assert sampled.p == pytest.approx(exact.p, abs=0.005)
    assert (sampled.low, sampled.high) == pytest.approx((exact.low, exact.high), abs=0.3)
    assert sampled.smallest_p == 1 / (1 + sampled.draws)
    assert sampled.p >= sampled.smallest_p


def welch_p(units: pd.DataFrame, shift: float = 0.0) -> float:
    """Return p of Welch's t over all reallocations, by scipy; shift as in brute_force."""
    treated = (units["arm"] == "a").to_numpy()
    y = units[OUTCOME].to_numpy() - shift * treated
    values = []
    for chosen in combinations(range(len(y)), int(treated.sum())):
        mask = np.zeros(len(y), dtype=bool)
        mask[list(chosen)] = True
        values.append(abs(stats.ttest_ind(y[mask], y[~mask], equal_var=False).statistic))
    own = abs(stats.ttest_ind(y[treated], y[~treated], equal_var=False).statistic)
    return float(np.mean(np.array(values) >= own * (1 - 1e-9)))


def test_studentised_p_and_interval_equal_welchs_t_over_reallocations(table: MakeTable) -> None:
    units = table(4, 1, means=(0.7, 0.78), seed=7).drop(index=0)
    found = randomisation_test(units, OUTCOME, **PAIR, studentised=True, level=0.9)
    assert found.p == pytest.approx(welch_p(units))
    assert found.low < found.statistic < found.high
    for effect in (found.low, found.high):
        inward = 0.01 * (found.statistic - effect)
        assert welch_p(units, (effect + inward) / 100) > 0.1
        assert welch_p(units, (effect - inward) / 100) <= 0.1
    assert "studentised" in str(found)


def test_studentised_statistic_is_the_difference_over_its_neyman_error(table: MakeTable) -> None:
    units = table(3, 2, means=(0.7, 0.78), seed=8)
    found = randomisation_test(units, OUTCOME, **PAIR, studentised=True)
    blocks = [units.index[units["block"] == b] for b in ("b0", "b1")]
    values, own = [], 0.0
    for first, second in product(combinations(blocks[0], 3), combinations(blocks[1], 3)):
        arm = pd.Series("b", index=units.index)
        arm[[*first, *second]] = "a"
        fit = difference_in_means(units.assign(arm=arm), OUTCOME, arm="a", against="b")
        values.append(abs(fit.estimate / fit.se))
        own = values[-1] if (arm == units["arm"]).all() else own
    assert found.p == pytest.approx(np.mean(np.array(values) >= own - 1e-9))


def test_studentised_test_keeps_its_size_where_the_plain_one_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Equal means, unequal spread and numbers: the sharp null is false, the weak one true."""
    monkeypatch.setattr(reallocation, "ENUMERATION_LIMIT", 1)
    monkeypatch.setattr(reallocation, "DRAWS", 199)
    rng = np.random.default_rng(0)
    arm = np.repeat(["a", "b"], [12, 24])
    plain = studentised = 0
    for _ in range(300):
        y = np.concatenate([rng.normal(0.5, 0.06, 12), rng.normal(0.5, 0.01, 24)]).clip(0, 1)
        frame = pd.DataFrame({"unit_id": range(36), "block": "x", "arm": arm, OUTCOME: y})
        plain += randomisation_test(frame, OUTCOME, **PAIR).p <= 0.05
        studentised += randomisation_test(frame, OUTCOME, **PAIR, studentised=True).p <= 0.05
    assert plain / 300 > 0.12
    assert studentised / 300 < 0.085


def test_matched_pairs_are_the_sign_flip_test(table: MakeTable) -> None:
    units = table(1, 7, means=(0.72, 0.78), seed=3)
    a, b = (units.loc[units["arm"] == arm, OUTCOME].to_numpy() for arm in "ab")
    flips = np.array(list(product([1, -1], repeat=7))) @ (a - b) / 7
    found = randomisation_test(units, OUTCOME, **PAIR)
    assert found.allocations == 2**7
    assert found.p == pytest.approx(np.mean(np.abs(flips) >= abs((a - b).mean()) - 1e-12))
    with pytest.raises(NotEstimable, match="needs two units of each arm in every block"):
        randomisation_test(units, OUTCOME, **PAIR, studentised=True)
