"""Models for outcomes of exactly 0 and 1, against published fits, scipy and each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from analysis.inference.difference import difference_in_means
from analysis.inference.table_checks import NotEstimable
from analysis.regression.beta import beta_effect
from analysis.regression.fractions import (
    beta_binomial_effect,
    fit_beta_binomial,
    fractional_logit_effect,
    squeezed_effect,
)

OUTCOME = "standard/att_acc_1"
PAIR = {"arm": "a", "against": "b"}
MakeTable = Callable[..., pd.DataFrame]

# Crowder (1978), Table 3: germinated seeds of Orobanche, by seed (75, 73) and root (bean, cucumber)
GERMINATED = [10, 23, 23, 26, 17, 5, 53, 55, 32, 46, 10, 8, 10, 8, 23, 0, 3, 22, 15, 32, 3]
SEEDS = [39, 62, 81, 51, 39, 6, 74, 72, 51, 79, 13, 16, 30, 28, 45, 4, 12, 41, 30, 51, 7]
SEED_73 = [0] * 11 + [1] * 10
CUCUMBER = [0] * 5 + [1] * 6 + [0] * 5 + [1] * 5


def with_counts(units: pd.DataFrame, n: int = 96, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    k = rng.binomial(n, units[OUTCOME])
    return units.assign(k=k, n=n, **{OUTCOME: k / n})


def test_orobanche_germination_is_at_the_maximum_of_scipys_likelihood() -> None:
    k, n = np.array(GERMINATED, float), np.array(SEEDS, float)
    x = np.column_stack([np.ones(21), SEED_73, CUCUMBER, np.multiply(SEED_73, CUCUMBER)])
    fit = fit_beta_binomial(k, n, x.astype(float))

    def loglik(coefficients: np.ndarray, phi: float) -> float:
        mean = 1 / (1 + np.exp(-x @ coefficients))
        return stats.betabinom(n, mean * phi, (1 - mean) * phi).logpmf(k).sum()

    assert fit.loglik == pytest.approx(loglik(fit.coefficients, fit.phi))
    for step in 1e-3 * np.vstack([np.eye(4), -np.eye(4)]):
        assert loglik(fit.coefficients + step, fit.phi) < fit.loglik
    for factor in (0.98, 1.02):
        assert loglik(fit.coefficients, factor * fit.phi) < fit.loglik


def test_covariance_is_the_curvature_of_the_profile(table: MakeTable) -> None:
    """The likelihood interval of one coefficient agrees with its Wald interval in a large table."""
    units = with_counts(table(60, 1), n=200)
    k, n = units["k"].to_numpy(float), units["n"].to_numpy(float)
    x = np.column_stack([units["arm"] == "a", np.ones(len(units))]).astype(float)
    fit = fit_beta_binomial(k, n, x)
    repeats = []
    rng = np.random.default_rng(4)
    mean = 1 / (1 + np.exp(-x @ fit.coefficients))
    for _ in range(120):
        drawn = rng.binomial(200, rng.beta(mean * fit.phi, (1 - mean) * fit.phi))
        repeats.append(fit_beta_binomial(drawn.astype(float), n, x).coefficients[0])
    assert np.std(repeats) == pytest.approx(np.sqrt(fit.covariance[0, 0]), rel=0.2)


def test_counts_of_zero_and_n_are_fitted(table: MakeTable) -> None:
    units = with_counts(table(6, 1, means=(0.3, 0.9)), n=50)
    units.loc[0, ["k", OUTCOME]] = [0, 0.0]
    units.loc[11, ["k", OUTCOME]] = [50, 1.0]
    found = beta_binomial_effect(units, "k", "n", **PAIR)
    plain = difference_in_means(units, OUTCOME, **PAIR)
    assert found.low < plain.estimate < found.high
    with pytest.raises(NotEstimable, match="undefined at 0 and 1"):
        beta_effect(units, OUTCOME, **PAIR)
    assert "beta-binomial" in str(found)


def test_impossible_counts_are_refused_by_name(table: MakeTable) -> None:
    units = with_counts(table())
    units.loc[2, "k"] = 97
    with pytest.raises(ValueError, match="0 <= k <= n and n > 0, not so for b0/a2"):
        beta_binomial_effect(units, "k", "n", **PAIR)


def test_binomial_counts_have_no_estimable_precision() -> None:
    k = np.array([5.0, 5, 5, 5, 8, 8, 8, 8])
    x = np.column_stack([np.repeat([1.0, 0.0], 4), np.ones(8)])
    with pytest.raises(NotEstimable, match="no more than binomial"):
        fit_beta_binomial(k, np.full(8, 10.0), x)


def test_saturated_fractional_logit_is_the_difference_in_means(table: MakeTable) -> None:
    """Its HC2 error is Welch's."""
    units = table(5, 1)
    found = fractional_logit_effect(units, OUTCOME, **PAIR)
    plain = difference_in_means(units, OUTCOME, **PAIR)
    assert (found.estimate, found.se) == pytest.approx((plain.estimate, plain.se))


def test_blocked_fractional_logit_has_the_coefficients_of_statsmodels_glm(table: MakeTable) -> None:
    units = table(5, 2)
    x = np.column_stack([units["arm"] == "a", pd.get_dummies(units["block"])]).astype(float)
    fit = sm.GLM(units[OUTCOME], x, family=sm.families.Binomial()).fit()
    off = x.copy()
    x[:, 0], off[:, 0] = 1, 0
    effect = 100 * float(np.mean(fit.predict(x) - fit.predict(off)))
    assert fractional_logit_effect(units, OUTCOME, **PAIR).estimate == pytest.approx(effect)


def test_fractional_logit_fits_zeros_but_not_an_arm_of_zeros(table: MakeTable) -> None:
    units = table(4, 1)
    units.loc[0, OUTCOME] = 0.0
    assert fractional_logit_effect(units, OUTCOME, **PAIR).estimate == pytest.approx(
        difference_in_means(units, OUTCOME, **PAIR).estimate
    )
    units.loc[units["arm"] == "a", OUTCOME] = 0.0
    with pytest.raises(NotEstimable, match="of an arm or block are 0 or all are 1"):
        fractional_logit_effect(units, OUTCOME, **PAIR)


@pytest.mark.parametrize("rate", [0, 1])
def test_the_beta_binomial_refuses_an_arm_of_zeros_or_ones(table: MakeTable, rate: int) -> None:
    units = with_counts(table(4, 2, means=(0.6, 0.7)))
    units.loc[units["arm"] == "a", "k"] = rate * units["n"]
    with pytest.raises(NotEstimable, match="all outcomes of an arm or block are 0 or all are 1"):
        beta_binomial_effect(units, "k", "n", arm="a", against="b")


def test_the_squeeze_states_its_constant_and_depends_on_it(table: MakeTable) -> None:
    units = table(6, 1, means=(0.3, 0.9))
    units.loc[0, OUTCOME] = 0.0
    few, many = (squeezed_effect(units, OUTCOME, **PAIR, constant=n) for n in (12, 1000))
    assert few.method.endswith("N = 12")
    assert abs(few.estimate - many.estimate) > 1
    by_hand = units.assign(**{OUTCOME: (units[OUTCOME] * 11 + 0.5) / 12})
    assert few.estimate == pytest.approx(beta_effect(by_hand, OUTCOME, **PAIR).estimate)
    with pytest.raises(NotEstimable, match="must be above 1, got 1"):
        squeezed_effect(units, OUTCOME, **PAIR, constant=1)
