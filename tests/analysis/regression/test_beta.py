"""Beta regression, against published fits of R's betareg and against its own algebra."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.inference.table_checks import NotEstimable
from analysis.regression.beta import beta_effect, fit_beta, precision_test, quantile_residuals

OUTCOME = "standard/att_acc_1"
PAIR = {"arm": "a", "against": "b"}
MakeTable = Callable[..., pd.DataFrame]

# Prater (1956): crude oil sample, end point (F), gasoline yield (%). Atkinson (1985); R datasets
# MASS::petrol and betareg::GasolineYield.
PRATER = [
    *(("A", t, y) for t, y in ((205, 12.2), (275, 22.3), (345, 34.7), (407, 45.7))),
    *(("B", t, y) for t, y in ((218, 8.0), (273, 13.1), (347, 26.6))),
    *(("C", t, y) for t, y in ((212, 7.4), (272, 18.2), (340, 30.4))),
    *(("D", t, y) for t, y in ((235, 6.9), (300, 15.2), (365, 26.0), (410, 33.6))),
    *(("E", t, y) for t, y in ((307, 14.4), (367, 26.8), (395, 34.9))),
    *(("F", t, y) for t, y in ((267, 10.0), (360, 24.8), (402, 31.7))),
    *(("G", t, y) for t, y in ((235, 2.8), (275, 6.4), (358, 16.1), (416, 27.8))),
    *(("H", t, y) for t, y in ((285, 5.0), (365, 17.6), (444, 32.1))),
    *(("I", t, y) for t, y in ((351, 14.0), (424, 23.2))),
    *(("J", t, y) for t, y in ((365, 8.5), (379, 14.7), (428, 18.0))),
]


def food() -> tuple[np.ndarray, np.ndarray]:
    """Griffiths, Hill & Judge (1993), Table 15.4: share of income on food, income, persons."""
    path = files("statsmodels") / "othermod/tests/results/foodexpenditure.csv"
    with path.open() as file:
        data = pd.read_csv(file)
    x = np.column_stack([np.ones(len(data)), data["income"], data["persons"]])
    return (data["food"] / data["income"]).to_numpy(), x


def gasoline() -> tuple[np.ndarray, np.ndarray]:
    """Prater (1956): yield on temperature and one indicator a batch."""
    data = pd.DataFrame(PRATER, columns=["batch", "temperature", "yield"])
    batches = pd.get_dummies(data["batch"]).to_numpy(dtype=float)
    return data["yield"].to_numpy() / 100, np.column_stack([data["temperature"], batches])


def test_food_expenditure_matches_betareg() -> None:
    """R's betareg 3.2 on FoodExpenditure, as in Ferrari & Cribari-Neto (2004), Sec. 4."""
    fit = fit_beta(*food())
    np.testing.assert_allclose(fit.coefficients, [-0.62254806, -0.01229884, 0.1184621], atol=5e-8)
    np.testing.assert_allclose(fit.se, [0.22385354, 0.00303558, 0.03534067], atol=5e-8)
    assert fit.phi == pytest.approx(35.60975, abs=5e-6)
    assert fit.phi * fit.precision_se[0] == pytest.approx(8.07960, abs=5e-6)
    assert fit.loglik == pytest.approx(45.33351, abs=5e-6)
    assert fit.score < 1e-6


def test_gasoline_yield_matches_betareg() -> None:
    """Cribari-Neto & Zeileis (2010), Table 1 (R's betareg): n = 32, constant precision."""
    fit = fit_beta(*gasoline())
    assert fit.coefficients[0] == pytest.approx(0.01096687, abs=5e-9)
    assert fit.se[0] == pytest.approx(0.00041265, abs=5e-9)
    assert fit.phi == pytest.approx(440.27839, abs=5e-5)
    assert fit.phi * fit.precision_se[0] == pytest.approx(110.02562, abs=5e-5)
    assert fit.loglik == pytest.approx(84.79756, abs=5e-6)
    assert fit_beta(*gasoline(), information="observed").se[0] == pytest.approx(0.0004077, abs=5e-9)


def test_precision_submodels_match_betareg() -> None:
    """Cribari-Neto & Zeileis (2010), Sec. 4: log(phi) on temperature, and food's on persons."""
    y, x = gasoline()
    z = np.column_stack([np.ones(len(y)), x[:, 0]])
    fit = fit_beta(y, x, precision=z)
    assert fit.precision_coefficients[1] == pytest.approx(0.01457032, abs=5e-8)
    assert fit.precision_se[1] == pytest.approx(0.00361828, abs=5e-8)
    assert fit.loglik == pytest.approx(86.97707, abs=5e-6)
    found = precision_test(y, x, z)
    assert (found.statistic, found.df) == (pytest.approx(4.35901, abs=5e-5), 1)
    assert found.p == pytest.approx(0.0368, abs=5e-5)
    y, x = food()
    persons = precision_test(y, x, x[:, [0, 2]])
    assert persons.statistic == pytest.approx(7.70289, abs=5e-5)
    assert persons.p == pytest.approx(0.00551, abs=5e-6)
    with pytest.raises(ValueError, match="phi is not constant"):
        _ = fit.phi


def test_links_change_the_coefficient_and_hardly_the_effect(table: MakeTable) -> None:
    units = table(8, 2)
    logit = beta_effect(units, OUTCOME, **PAIR)
    for link in ("probit", "cloglog", "loglog", "cauchit"):
        other = beta_effect(units, OUTCOME, **PAIR, link=link)
        assert other.estimate == pytest.approx(logit.estimate, abs=1.5)
        assert (other.link, other.odds_ratio) == (link, None)
        assert other.coefficient != pytest.approx(logit.coefficient, rel=0.01)


def test_unknown_links_and_robust_names_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown link 'log'; known: cauchit, cloglog, logit"):
        fit_beta(*food(), link="log")
    with pytest.raises(ValueError, match="expected, observed, got 'HC3'"):
        fit_beta(*food(), information="HC3")


def test_quantile_residuals_are_standard_normal_under_the_model() -> None:
    rng = np.random.default_rng(1)
    x = np.column_stack([np.ones(2000), rng.normal(size=2000)])
    mean = 1 / (1 + np.exp(-x @ np.array([0.5, 0.7])))
    y = rng.beta(20 * mean, 20 * (1 - mean))
    assert stats.kstest(quantile_residuals(fit_beta(y, x), y, x), "norm").pvalue > 0.05


def test_the_unit_with_the_largest_residual_is_named(table: MakeTable) -> None:
    units = table(8, 2)
    units.loc[units["unit_id"] == "b1/a3", OUTCOME] = 0.05
    found = beta_effect(units, OUTCOME, **PAIR)
    assert found.largest_unit == "b1/a3"
    assert found.largest_residual < -3


def test_likelihood_is_at_its_maximum(table: MakeTable) -> None:
    units = table(6, 1)
    y, z = units[OUTCOME].to_numpy(), (units["arm"] == "a").to_numpy(dtype=float)
    x = np.column_stack([z, np.ones(len(z))])
    fit = fit_beta(y, x)

    def loglik(coefficients: np.ndarray, phi: float) -> float:
        mean = 1 / (1 + np.exp(-x @ coefficients))
        return stats.beta(mean * phi, (1 - mean) * phi).logpdf(y).sum()

    best = loglik(fit.coefficients, fit.phi)
    assert best == pytest.approx(fit.loglik)
    for step in np.array([[1e-3, 0], [0, 1e-3], [-1e-3, 0], [0, -1e-3]]):
        assert loglik(fit.coefficients + step, fit.phi) < best
    assert loglik(fit.coefficients, 1.01 * fit.phi) < best


def test_effect_in_points_is_the_difference_of_fitted_means(table: MakeTable) -> None:
    units = table(8, 1)
    found = beta_effect(units, OUTCOME, **PAIR)
    y, z = units[OUTCOME].to_numpy(), (units["arm"] == "a").to_numpy(dtype=float)
    fit = fit_beta(y, np.column_stack([z, np.ones(len(z))]))
    mean = 1 / (1 + np.exp(-np.array([fit.coefficients.sum(), fit.coefficients[1]])))
    assert found.estimate == pytest.approx(100 * (mean[0] - mean[1]))
    assert found.odds_ratio == pytest.approx(np.exp(found.coefficient))
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(found.coefficient / found.se)))


def test_delta_interval_agrees_with_simulation_from_the_fit(table: MakeTable) -> None:
    units = table(8, 2)
    found = beta_effect(units, OUTCOME, **PAIR)
    z = (units["arm"] == "a").to_numpy(dtype=float)
    blocks = pd.get_dummies(units["block"]).to_numpy(dtype=float)
    fit = fit_beta(units[OUTCOME].to_numpy(), np.column_stack([z, blocks]))
    rng = np.random.default_rng(0)
    drawn = rng.multivariate_normal(fit.coefficients, fit.covariance, 20_000)
    base = drawn[:, 1:] @ blocks.T
    effect = (1 / (1 + np.exp(-base - drawn[:, :1])) - 1 / (1 + np.exp(-base))).mean(axis=1)
    assert found.estimate_se == pytest.approx(100 * effect.std(), rel=0.03)


def test_small_sample_interval_is_wider_by_its_formula(table: MakeTable) -> None:
    found = beta_effect(table(4, 2), OUTCOME, **PAIR)
    n, k = 16, 3
    half = stats.t.ppf(0.975, n - k) * found.estimate_se * np.sqrt(n / (n - k))
    assert found.small_sample_high - found.estimate == pytest.approx(half)
    assert found.small_sample_low < found.low
    assert found.small_sample_high > found.high


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_outcomes_at_the_bounds_are_refused_by_name(table: MakeTable, value: float) -> None:
    units = table()
    units.loc[5, OUTCOME] = value
    with pytest.raises(NotEstimable, match=r"undefined at 0 and 1: .* of b0/b1$"):
        beta_effect(units, OUTCOME, **PAIR)


def test_missing_outcomes_are_refused_by_name(table: MakeTable) -> None:
    units = table()
    units.loc[5, OUTCOME] = np.nan
    with pytest.raises(NotEstimable, match="missing for b0/b1"):
        beta_effect(units, OUTCOME, **PAIR)


def test_identical_runs_in_an_arm_are_detected(table: MakeTable) -> None:
    units = table()
    units.loc[units["arm"] == "a", OUTCOME] = 0.6
    with pytest.raises(NotEstimable, match="all units of a have the same"):
        beta_effect(units, OUTCOME, **PAIR)


def test_bounds_are_refused_under_python_o() -> None:
    code = (
        "import numpy as np\nfrom analysis.regression.beta import fit_beta\n"
        "try:\n    fit_beta(np.array([0.0, 0.5, 0.4, 0.3]), np.ones((4, 1)))\n"
        "except ValueError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True)
    assert "strictly between 0 and 1" in done.stdout
