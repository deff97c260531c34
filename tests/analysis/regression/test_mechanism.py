"""Instruments, mediation and matching: against statsmodels, algebra and simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.sandbox.regression.gmm import IV2SLS

from analysis.inference.table_checks import NotEstimable
from analysis.regression.fieller import fieller, quadratic_set
from analysis.regression.matched_accuracy import compare_at_matched_accuracy
from analysis.regression.mechanism import mediation, two_stage, wald_ratio

LEAKAGE, ROBUST, CLEAN = "standard/att_acc_1", "robust_acc/0.005", "clean_acc"
PAIR = {"arm": "t", "against": "c"}


def trial(
    per_cell: int = 6, strength: float = 0.4, seed: int = 0, arms: str = "ctp", beta: float = 0.5
) -> pd.DataFrame:
    """Draw leakage as ``beta`` times robust accuracy, both with one common error."""
    rng = np.random.default_rng(seed)
    rows = []
    for b in range(2):
        for arm in arms:
            push = strength * {"c": 0.0, "t": 1.0, "p": 0.4}[arm]
            for i in range(per_cell):
                shared = rng.normal(0, 0.02)
                robust = 0.7 - push + shared + rng.normal(0, 0.02)
                leakage = 0.3 + beta * robust + shared + 0.02 * b + rng.normal(0, 0.01)
                clean = 0.95 - 0.05 * push + rng.normal(0, 0.01)
                rows.append((f"b{b}/{arm}{i}", f"b{b}", arm, leakage, robust, clean))
    columns = ["unit_id", "block", "arm", LEAKAGE, ROBUST, CLEAN]
    return pd.DataFrame(rows, columns=columns)


def within(units: pd.DataFrame, column: str) -> np.ndarray:
    values = 100 * units[column]
    return (values - values.groupby(units["block"]).transform("mean")).to_numpy()


def test_wald_ratio_is_the_ratio_of_effects_and_2sls() -> None:
    units = trial(arms="ct")
    found = wald_ratio(units, LEAKAGE, ROBUST, **PAIR)
    assert found.ratio == pytest.approx(found.leakage.estimate / found.mediator.estimate)
    z = (units["arm"] == "t").astype(float).to_numpy()
    z = (z - z.mean())[:, None]
    fit = IV2SLS(within(units, LEAKAGE), within(units, ROBUST)[:, None], z).fit()
    assert found.ratio == pytest.approx(fit.params[0])
    assert found.first_stage_f == pytest.approx((found.mediator.estimate / found.mediator.se) ** 2)
    assert "exclusion" in str(found)


def test_at_an_end_of_the_anderson_rubin_set_the_effect_is_just_significant() -> None:
    units = trial(arms="ct", per_cell=5)
    found = wald_ratio(units, LEAKAGE, ROBUST, **PAIR)
    (ends,) = found.anderson_rubin.pieces
    for end in ends:
        y = 100 * units[LEAKAGE] - end * 100 * units[ROBUST]
        variance = estimate = 0.0
        for _, rows in units.assign(y=y).groupby("block"):
            t, c = (rows.loc[rows["arm"] == a, "y"] for a in "tc")
            estimate += (t.mean() - c.mean()) / 2
            variance += (t.var() / 5 + c.var() / 5) / 4
        from scipy import stats

        critical = stats.t.ppf(0.975, min(found.leakage.df, found.mediator.df))
        assert abs(estimate) / np.sqrt(variance) == pytest.approx(critical)


def test_a_weak_first_stage_gives_an_unbounded_set() -> None:
    units = trial(strength=0.002, seed=1, arms="ct")
    found = wald_ratio(units, LEAKAGE, ROBUST, **PAIR)
    assert found.first_stage_f < 4
    assert not found.anderson_rubin.bounded
    assert "unbounded" in str(found)


def test_anderson_rubin_covers_at_its_level_and_least_squares_is_biased() -> None:
    found = [wald_ratio(trial(seed=s, arms="ct"), LEAKAGE, ROBUST, **PAIR) for s in range(100)]
    assert 0.90 < np.mean([0.5 in f.anderson_rubin for f in found]) < 0.99
    weak = [
        wald_ratio(trial(seed=s, arms="ct", strength=0.02), LEAKAGE, ROBUST, **PAIR)
        for s in range(100)
    ]
    assert np.mean([0.5 in f.anderson_rubin for f in weak]) > 0.90
    assert np.mean([f.ols_slope for f in weak]) > 0.7


def test_two_stage_with_three_arms_equals_statsmodels() -> None:
    units = trial()
    found = two_stage(units, LEAKAGE, [ROBUST], arms=["c", "t", "p"])
    z = np.column_stack([(units["arm"] == a).to_numpy(float) for a in "tp"])
    z = z - z.mean(axis=0)
    fit = IV2SLS(within(units, LEAKAGE), within(units, ROBUST)[:, None], z).fit()
    assert found.coefficients[0] == pytest.approx(fit.params[0])
    factor = np.sqrt(fit.df_resid / (len(units) - 3))  # the block means that were taken out
    assert found.se[0] == pytest.approx(float(fit.bse[0]) * factor)
    assert found.anderson_rubin is not None
    assert 0.5 in found.anderson_rubin
    assert (found.instruments, found.sargan is not None) == (2, True)
    first = sm.OLS(within(units, ROBUST), z).fit()
    assert found.first_stage_f[0] == pytest.approx(first.fvalue * (len(units) - 4) / first.df_resid)


def test_fewer_instruments_than_mediators_are_refused() -> None:
    with pytest.raises(NotEstimable, match="2 mediators need 2 instruments or more; 2 arms give 1"):
        two_stage(trial(), LEAKAGE, [ROBUST, CLEAN], arms=["c", "t"])


def test_a_mediator_with_equal_means_has_no_ratio() -> None:
    units = trial(arms="ct")
    by_rank = units.groupby(["block", "arm"]).cumcount()
    same = units.assign(**{ROBUST: np.where(by_rank == 0, 1 / 72, 0.0)})  # one hit in each cell
    with pytest.raises(NotEstimable, match="same mean in t and c"):
        wald_ratio(same, LEAKAGE, ROBUST, **PAIR)
    with pytest.raises(NotEstimable, match="do not move robust_acc"):
        two_stage(same, LEAKAGE, [ROBUST], arms=["c", "t"])


def test_constant_leakage_is_refused() -> None:
    units = trial().assign(**{LEAKAGE: 0.0})
    with pytest.raises(NotEstimable, match="does not vary within blocks"):
        two_stage(units, LEAKAGE, [ROBUST], arms=["c", "t", "p"])


def test_mediation_adds_up_and_prints_its_assumptions() -> None:
    units = trial(arms="ct", seed=3)
    found = mediation(units, LEAKAGE, ROBUST, **PAIR)
    assert found.indirect + found.direct == pytest.approx(found.total)
    assert found.rho_zero > 0.3  # the common cause that the simulation put there
    assert "no unmeasured cause" in str(found)
    z = (units["arm"] == "t").to_numpy(float)
    y, r = within(units, LEAKAGE), within(units, ROBUST)
    z = z - z.mean()
    b = sm.OLS(y, np.column_stack([z, r])).fit().params[1]
    assert found.indirect == pytest.approx(sm.OLS(r, z).fit().params[0] * b)


@pytest.mark.parametrize("column", [LEAKAGE, ROBUST])
def test_mediation_of_what_does_not_vary_within_arms_is_not_estimable(column: str) -> None:
    units = trial(arms="ct", seed=3)
    units[column] = np.where(units["arm"] == "t", 0.25, 0.5)
    with pytest.raises(NotEstimable, match="does not vary within arms and blocks"):
        mediation(units, LEAKAGE, ROBUST, **PAIR)


def test_leakage_at_matched_accuracy_recovers_a_shift_of_the_line() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for b in range(2):
        for arm, clean in (("t", 0.9), ("p1", 0.94), ("p2", 0.86)):
            for i in range(6):
                x = clean + rng.normal(0, 0.005)
                y = 0.1 + 0.8 * x + 0.03 * b - 0.1 * (arm == "t") + rng.normal(0, 0.004)
                rows.append((f"b{b}/{arm}{i}", f"b{b}", arm, y, x))
    units = pd.DataFrame(rows, columns=["unit_id", "block", "arm", LEAKAGE, CLEAN])
    found = compare_at_matched_accuracy(units, LEAKAGE, CLEAN, arm="t", line=["p1", "p2"])
    assert found.low < -10 < found.high
    assert not found.extrapolated
    z = (units["arm"] == "t").to_numpy(float)
    x = 100 * units[CLEAN].to_numpy() - found.at
    design = np.column_stack([z, (1 - z) * x, z * x, pd.get_dummies(units["block"])]).astype(float)
    fit = sm.OLS(100 * units[LEAKAGE].to_numpy(), design).fit(cov_type="HC2")
    assert (found.estimate, found.se) == pytest.approx((fit.params[0], fit.bse[0]))
    far = compare_at_matched_accuracy(units, LEAKAGE, CLEAN, arm="p2", line=["p1", "t"])
    assert far.extrapolated
    assert "extrapolates" in str(far)


def test_an_arm_whose_slope_one_unit_decides_has_no_slope_of_its_own() -> None:
    units = trial(arms="cp").assign(block="x")
    arm = units.index[units["arm"] == "c"]
    units.loc[arm, CLEAN] = 0.9
    units.loc[arm[0], CLEAN] = 0.96
    found = compare_at_matched_accuracy(units, LEAKAGE, CLEAN, arm="c", line=["p"])
    z, x = (units["arm"] == "c").to_numpy(float), 100 * units[CLEAN].to_numpy() - found.at
    design = np.column_stack([z, (1 - z) * x, np.ones(len(z))])
    fit = sm.OLS(100 * units[LEAKAGE].to_numpy(), design).fit(cov_type="HC2")
    assert (found.estimate, found.se) == pytest.approx((fit.params[0], fit.bse[0]))


def test_quadratic_sets_are_intervals_outsides_lines_or_empty() -> None:
    assert quadratic_set(1, -3, 2, 0.95).pieces == ((1.0, 2.0),)
    assert quadratic_set(-1, 3, -2, 0.95).pieces == ((-np.inf, 1.0), (2.0, np.inf))
    assert quadratic_set(-1, 0, -1, 0.95).pieces == ((-np.inf, np.inf),)
    assert quadratic_set(1, 0, 1, 0.95).pieces == ()
    assert quadratic_set(0, 2, -4, 0.95).pieces == ((-np.inf, 2.0),)
    assert str(quadratic_set(-1, 3, -2, 0.95)) == "unbounded: at most 1 or at least 2"


def test_fieller_is_unbounded_exactly_where_the_denominator_is_not_significant() -> None:
    for t in (1.9, 2.1):
        found = fieller(3.0, t, variances=(1.0, 1.0), covariance=0.2, critical=2.0, level=0.95)
        assert found.bounded == (t > 2)
        assert 3.0 / t in found
