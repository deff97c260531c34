"""Arm means and blocked differences, against hand algebra, scipy and statsmodels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from analysis.inference.blocked_means import block_weights
from analysis.inference.difference import arm_means, difference_in_means, difference_p
from analysis.inference.randomisation import randomisation_test
from analysis.inference.table_checks import NotEstimable
from analysis.regression.beta import beta_effect

OUTCOME = "standard/att_acc_1"
DISTANCE = "standard/delta_eval"  # no fraction
PAIR = {"arm": "a", "against": "b"}
MakeTable = Callable[..., pd.DataFrame]


def test_one_block_of_a_distance_gives_welchs_test_and_interval(
    table: MakeTable,
) -> None:
    units = table(per_cell=6, blocks=1).rename(columns={OUTCOME: DISTANCE})
    a, b = (units.loc[units["arm"] == arm, DISTANCE] for arm in "ab")
    welch = stats.ttest_ind(a, b, equal_var=False)
    bounds = welch.confidence_interval(0.95)
    found = difference_in_means(units, DISTANCE, **PAIR)
    assert found.method == "Welch"
    np.testing.assert_allclose(
        [found.estimate, found.df, found.low, found.high, found.p],
        [a.mean() - b.mean(), welch.df, bounds.low, bounds.high, welch.pvalue],
    )


def test_the_interval_of_a_fraction_combines_the_limits_of_the_arms(table: MakeTable) -> None:
    units = table(per_cell=6, blocks=1)
    found, ends = difference_in_means(units, OUTCOME, **PAIR), []
    for arm in "ab":
        y = units.loc[units["arm"] == arm, OUTCOME]
        mean, se = y.mean(), y.std(ddof=1) / np.sqrt(6)
        c, odds, variance = stats.t.ppf(0.975, found.df), np.log(mean / (1 - mean)), mean - mean**2
        left = (1 - 2 * mean) * se / (6 * variance)  # of the skewness
        middle = odds + left * c**2 / (1 + abs(left) * c) * se / variance
        ends.append((mean, *(1 / (1 + np.exp(-middle - s * c * se / variance)) for s in (-1, 1))))
    (m1, l1, u1), (m0, l0, u0) = ends
    low = m1 - m0 - np.sqrt((m1 - l1) ** 2 + (u0 - m0) ** 2)
    high = m1 - m0 + np.sqrt((u1 - m1) ** 2 + (m0 - l0) ** 2)
    np.testing.assert_allclose([found.low, found.high], [100 * low, 100 * high])
    assert found.method.startswith("Welch, limits of the arms corrected for skewness")
    assert found.estimate == pytest.approx(100 * (m1 - m0))


def test_intervals_of_fractions_stay_within_100_points() -> None:
    y = [0.0, 0.0, 0.9, 1.0, 1.0, 1.0, 0.95, 1.0]
    frame = pd.DataFrame({"unit_id": range(8), "arm": [*"aaaabbbb"], OUTCOME: y, "block": "x"})
    found = difference_in_means(frame, OUTCOME, **PAIR)
    assert -100 <= found.low < found.estimate < found.high <= 100


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_an_arm_whose_outcomes_are_all_0_or_all_1_gets_a_symmetric_interval(end: float) -> None:
    """Limits of the other arm never reach 0 or 1, so they would exclude 0 for any outcomes."""
    flat, other = [end] * 8, [*[end] * 7, abs(end - 1 / 24)]
    frame = pd.DataFrame({"arm": [*"aaaaaaaabbbbbbbb"], OUTCOME: flat + other, "block": "x"})
    found = difference_in_means(frame.assign(unit_id=range(16)), OUTCOME, **PAIR)
    estimate, error = np.mean(flat) - np.mean(other), np.std(other, ddof=1) / np.sqrt(8)
    half = stats.t.ppf(0.975, 7) * error
    np.testing.assert_allclose(
        [found.low, found.high], [100 * (estimate - half), 100 * (estimate + half)]
    )
    assert found.low < 0 < found.high
    p = 2 * stats.t.sf(abs(estimate) / error, 7)
    y = frame[OUTCOME].to_numpy()[:, None]
    np.testing.assert_allclose([found.p, *difference_p(frame, y, arm="a")], p)


@pytest.mark.parametrize("n", [4, 5, 6, 7])
@pytest.mark.parametrize("value", [23 / 24, 1 / 3, 0.1])
def test_equal_outcomes_have_no_error_in_spite_of_rounding(n: int, value: float) -> None:
    frame = pd.DataFrame({"arm": ["a"] * n + ["b"] * n, OUTCOME: value, "block": "x"})
    with pytest.raises(NotEstimable, match="does not vary"):
        difference_in_means(frame.assign(unit_id=range(2 * n)), OUTCOME, **PAIR)
    pairs = frame.assign(block=[*range(n), *range(n)], unit_id=range(2 * n))
    with pytest.raises(NotEstimable, match="does not vary"):
        difference_in_means(pairs, OUTCOME, **PAIR)


def test_p_inverts_the_interval(table: MakeTable) -> None:
    units = table(per_cell=4, blocks=2, seed=5)
    found = difference_in_means(units, OUTCOME, **PAIR)
    ends = found.bounds(1 - found.p)
    assert min(abs(end) for end in ends) == pytest.approx(0, abs=1e-9)
    assert found.p_above(found.bounds(0.9)[0]) == pytest.approx(0.05)
    assert found.p_above(found.bounds(0.9)[1]) == pytest.approx(0.95)


def test_p_of_many_columns_are_those_of_each(table: MakeTable) -> None:
    units = table(per_cell=4, blocks=2)
    y = np.random.default_rng(1).beta(8, 2, (len(units), 5))
    tables = [units.assign(**{OUTCOME: column}) for column in y.T]
    alone = [difference_in_means(one, OUTCOME, **PAIR).p for one in tables]
    np.testing.assert_allclose(difference_p(units, y, arm="a"), alone)
    assert difference_p(units, np.ones((len(units), 1)), arm="a").tolist() == [1.0]


def test_blocked_difference_is_the_mean_of_the_blocks_differences(table: MakeTable) -> None:
    units = table(per_cell=4, blocks=3)
    means = units.groupby(["block", "arm"])[OUTCOME].mean().unstack()
    variances = units.groupby(["block", "arm"])[OUTCOME].var(ddof=1).unstack()
    found = difference_in_means(units, OUTCOME, **PAIR)
    assert found.estimate == pytest.approx(100 * (means["a"] - means["b"]).mean())
    assert found.se == pytest.approx(100 * np.sqrt((variances / 4).to_numpy().sum() / 9))


def test_standard_error_is_hc2_of_the_saturated_regression(table: MakeTable) -> None:
    units = table(per_cell=5, blocks=2)
    z = (units["arm"] == "a").to_numpy(dtype=float)
    second = (units["block"] == "b1").to_numpy(dtype=float)
    centred = second - second.mean()
    x = np.column_stack([np.ones(len(z)), z, centred, z * centred])
    fit = sm.OLS(100 * units[OUTCOME].to_numpy(), x).fit(cov_type="HC2")
    found = difference_in_means(units, OUTCOME, **PAIR)
    np.testing.assert_allclose([found.estimate, found.se], [fit.params[1], fit.bse[1]])


def test_a_cell_of_one_unit_takes_the_variance_of_its_arm_in_other_blocks(
    table: MakeTable,
) -> None:
    units = table(per_cell=3, blocks=3).drop(index=[0, 1])
    cells = units.groupby(["block", "arm"])[OUTCOME]
    n, s2 = cells.count().unstack(), cells.var(ddof=1).unstack()
    weights = (n["a"] * n["b"] / (n["a"] + n["b"])).to_numpy()
    weights = weights / weights.sum()
    s2.loc["b0", "a"] = s2.loc[["b1", "b2"], "a"].mean()
    variance = float(weights**2 @ (s2 / n).sum(axis=1).to_numpy())
    found = difference_in_means(units, OUTCOME, **PAIR)
    assert "pooled over blocks for single units" in found.method
    assert found.se == pytest.approx(100 * np.sqrt(variance))
    assert found.df <= 2 * 4  # twice the degrees of freedom of the smaller arm


def test_an_arm_of_single_units_is_compared_by_block_differences(table: MakeTable) -> None:
    """One unit v three in each of five blocks: the error of the five differences."""
    units = table(per_cell=3, blocks=5)
    units = units[(units["arm"] == "b") | units["unit_id"].str.endswith("a0")]
    means = units.groupby(["block", "arm"])[OUTCOME].mean().unstack()
    found = difference_in_means(units.rename(columns={OUTCOME: DISTANCE}), DISTANCE, **PAIR)
    paired = stats.ttest_rel(means["a"], means["b"])
    assert found.estimate / found.se == pytest.approx(paired.statistic)
    assert found.df == pytest.approx(1 + 3 / 3)
    assert found.method == "differences of the blocks, t"


def test_unequal_arms_have_fewer_degrees_of_freedom_than_welchs(table: MakeTable) -> None:
    units = table(per_cell=9, blocks=1)
    short = units[(units["arm"] == "b") | (units.groupby("arm").cumcount() < 3)]
    a, b = (short.loc[short["arm"] == arm, OUTCOME] for arm in "ab")
    welch = stats.ttest_ind(a, b, equal_var=False)
    found = difference_in_means(short, OUTCOME, **PAIR)
    assert found.df == pytest.approx(2 + (welch.df - 2) * (2 / 8) ** 2)


def test_intervals_of_pairs_stay_within_the_possible_differences(table: MakeTable) -> None:
    """Two pairs have one degree of freedom; a symmetric interval would reach hundreds of points."""
    rng = np.random.default_rng(4)
    for pairs in (2, 3):
        for y in (
            rng.uniform(0.1, 0.9, 2 * pairs),
            np.r_[np.zeros(pairs), rng.uniform(size=pairs)],
        ):
            units = table(per_cell=1, blocks=pairs).sort_values("arm")
            found = difference_in_means(units.assign(**{OUTCOME: y}), OUTCOME, **PAIR)
            assert -100 <= found.low <= found.estimate <= found.high <= 100


def test_an_arm_left_with_one_unit_in_shared_blocks_is_not_estimable(table: MakeTable) -> None:
    units = table(per_cell=2, blocks=2)
    apart = units[(units["arm"] == "a") | (units["block"] == "b0")].drop(index=0)
    message = "a has 1 finished unit in the blocks that hold both arms"
    with pytest.raises(NotEstimable, match=message):
        difference_in_means(apart, OUTCOME, **PAIR)


def test_blocks_that_lost_units_weigh_as_in_ols_with_block_indicators(table: MakeTable) -> None:
    units = table(per_cell=4, blocks=2).drop(index=[0, 1, 12])
    z = (units["arm"] == "a").to_numpy(dtype=float)
    block = pd.factorize(units["block"])[0]
    x = np.column_stack([z, pd.get_dummies(units["block"]).to_numpy(dtype=float)])
    fit = sm.OLS(100 * units[OUTCOME].to_numpy(), x).fit()
    assert block_weights(z, block).sum() == pytest.approx(1)
    assert difference_in_means(units, OUTCOME, **PAIR).estimate == pytest.approx(fit.params[0])


def test_swapping_arms_flips_the_sign_and_order_of_rows_is_irrelevant(table: MakeTable) -> None:
    units = table()
    forward = difference_in_means(units, OUTCOME, arm="a", against="b")
    back = difference_in_means(units.iloc[::-1], OUTCOME, arm="b", against="a")
    assert back.estimate == pytest.approx(-forward.estimate)
    assert (back.low, back.high) == pytest.approx((-forward.high, -forward.low))


def test_interval_covers_at_its_level() -> None:
    rng = np.random.default_rng(3)
    block, arm = np.repeat(["x", "y"], 8), np.tile(["a", "b"], 8)
    inside = 0
    for _ in range(600):
        y = np.where(block == "x", rng.beta(54, 6, 16), rng.beta(40, 20, 16))
        frame = pd.DataFrame({"unit_id": range(16), "block": block, "arm": arm, OUTCOME: y})
        found = difference_in_means(frame, OUTCOME, **PAIR)
        inside += found.low <= 0 <= found.high
    assert 0.93 < inside / 600 < 0.98


def test_an_arm_with_one_unit_is_not_estimable(table: MakeTable) -> None:
    units = table(per_cell=1, blocks=1)
    with pytest.raises(NotEstimable, match="a has 1 finished unit, a comparison needs 2"):
        difference_in_means(units, OUTCOME, **PAIR)


def test_arms_that_share_no_block_are_not_estimable(table: MakeTable) -> None:
    units = table(per_cell=3, blocks=1)
    units["block"] = units["arm"]
    with pytest.raises(NotEstimable, match="no block holds finished units of both a and b"):
        difference_in_means(units, OUTCOME, **PAIR)


def test_missing_outcomes_are_named(table: MakeTable) -> None:
    units = table()
    units.loc[3, OUTCOME] = np.nan
    with pytest.raises(NotEstimable, match="is missing for b0/a3"):
        difference_in_means(units, OUTCOME, **PAIR)


def test_no_variation_is_not_a_zero_error(table: MakeTable) -> None:
    units = table().assign(**{OUTCOME: 0.5})
    with pytest.raises(NotEstimable, match="does not vary within arms"):
        difference_in_means(units, OUTCOME, **PAIR)


def test_arm_means_are_in_percent_with_a_t_interval(table: MakeTable) -> None:
    units = table(per_cell=5, blocks=1)
    (a, b) = arm_means(units, OUTCOME, ["a", "b", "absent"])
    values = 100 * units.loc[units["arm"] == "a", OUTCOME]
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    assert (a.mean, a.sd, a.n) == pytest.approx((values.mean(), values.std(ddof=1), 5))
    assert (a.low, a.high) == pytest.approx((low, high))
    assert (a.minimum, a.maximum) == pytest.approx((values.min(), values.max()))
    assert b.arm == "b"


def test_distances_keep_their_own_unit(table: MakeTable) -> None:
    units = table().rename(columns={OUTCOME: "standard/delta_eval"})
    found = difference_in_means(units, "standard/delta_eval", **PAIR)
    assert (found.unit, abs(found.estimate) < 1) == ("L2", True)
    assert "L2" in str(found)


def test_matched_pairs_of_a_distance_give_the_paired_t_interval(table: MakeTable) -> None:
    units = table(per_cell=1, blocks=7).rename(columns={OUTCOME: DISTANCE})
    a, b = (units.loc[units["arm"] == arm, DISTANCE].to_numpy() for arm in "ab")
    paired = stats.ttest_rel(a, b)
    bounds = paired.confidence_interval(0.95)
    found = difference_in_means(units, DISTANCE, **PAIR)
    assert found.method == "matched pairs, t"
    assert (found.df, found.low, found.high) == pytest.approx((6, bounds.low, bounds.high))
    fractions = difference_in_means(units.rename(columns={DISTANCE: OUTCOME}), OUTCOME, **PAIR)
    assert fractions.se == pytest.approx(100 * found.se)
    assert fractions.method == "matched pairs, t, limits of the arms corrected for skewness (MOVER)"


def test_units_count_in_their_allocated_arm_unless_told_otherwise(
    table: MakeTable,
) -> None:
    units = table().assign(received=lambda t: t["arm"])
    units.loc[0, "received"] = "b"
    intended = difference_in_means(units, OUTCOME, **PAIR)
    assert (intended.n_arm, intended.as_treated) == (8, False)
    treated = difference_in_means(units, OUTCOME, **PAIR, received="received")
    assert (treated.n_arm, treated.n_against, treated.as_treated) == (7, 9, True)
    assert "not randomised" in str(treated)
    with pytest.raises(ValueError, match="lacks the columns used"):
        difference_in_means(units, OUTCOME, **PAIR, received="used")


def bad_tables(units: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, str]]:
    twice = pd.concat([units, units.iloc[:1]])
    high = units.assign(**{OUTCOME: units[OUTCOME].where(units.index != 2, 1.2)})
    missing = units.assign(**{OUTCOME: units[OUTCOME].where(units.index != 2)})
    return {
        "no block": (units.drop(columns="block"), "lacks the columns block; it has unit_id, arm"),
        "no outcome": (units.drop(columns=OUTCOME), f"lacks the columns {OUTCOME}"),
        "twice": (twice, "one row a unit: b0/a0 occurs more than once"),
        "above one": (high, r"fraction in \[0, 1\], got 1.2 for b0/a2; were percentages"),
        "missing": (missing, f"{OUTCOME} is missing for b0/a2"),
        "empty arm": (units[units["arm"] == "b"], "a has 0 finished units"),
    }


@pytest.mark.parametrize(
    "fault", ["no block", "no outcome", "twice", "above one", "missing", "empty arm"]
)
@pytest.mark.parametrize("estimator", [difference_in_means, randomisation_test, beta_effect])
def test_a_bad_table_is_one_clear_error(
    table: MakeTable, fault: str, estimator: Callable[..., object]
) -> None:
    units, message = bad_tables(table())[fault]
    more = {"seed": 1} if estimator is randomisation_test else {}
    with pytest.raises(ValueError, match=message) as caught:
        estimator(units, OUTCOME, **PAIR, **more)
    assert "\n" not in str(caught.value)
