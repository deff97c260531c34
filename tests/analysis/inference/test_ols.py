"""Robust errors, against statsmodels and their definitions, and the rule for leverage 1."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from analysis.inference.clustered import clustered_difference
from analysis.inference.ols import block_indicators, cr2, ols, robust_covariance
from analysis.inference.table_checks import NotEstimable
from analysis.regression.correlation import associate
from analysis.regression.dose_response import fit_dose_response
from analysis.regression.leakage_model import fit_leakage_model
from analysis.regression.matched_accuracy import compare_at_matched_accuracy

OUTCOME = "standard/att_acc_1"


def draw(n: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = np.column_stack([np.ones(n), rng.normal(size=n), rng.exponential(size=n)])
    return x @ [1.0, 2.0, -0.5] + rng.normal(size=n) * x[:, 2], x


@pytest.mark.parametrize("kind", ["HC2", "HC3"])
def test_errors_equal_statsmodels(kind: str) -> None:
    y, x = draw()
    fit, expected = ols(y, x), sm.OLS(y, x).fit(cov_type=kind)
    np.testing.assert_allclose(fit.coefficients, expected.params)
    np.testing.assert_allclose(fit.robust_covariance(kind), expected.cov_params())
    np.testing.assert_allclose(fit.robust_se(kind), expected.bse)
    np.testing.assert_allclose(fit.covariance, sm.OLS(y, x).fit().cov_params())
    np.testing.assert_allclose(fit.leverage, expected.get_influence().hat_matrix_diag)


def test_errors_of_a_weighted_fit_take_the_square_roots_of_its_weights() -> None:
    y, x = draw()
    root = np.sqrt(np.random.default_rng(1).uniform(0.2, 2, len(y)))
    weighted = sm.WLS(y, x, weights=root**2).fit(cov_type="HC2")
    found = robust_covariance(x * root[:, None], (y - x @ weighted.params) * root, kind="HC2")
    np.testing.assert_allclose(found, weighted.cov_params())


def test_too_few_units_and_dependent_columns_are_refused() -> None:
    y, x = draw(3)
    with pytest.raises(NotEstimable, match="3 units leave no degree of freedom for 3"):
        ols(y, x)
    y, x = draw()
    with pytest.raises(NotEstimable, match="linearly dependent"):
        ols(y, np.column_stack([x, x[:, 1] - 3 * x[:, 2]]))


def test_block_indicators_are_one_in_their_block_and_zero_elsewhere() -> None:
    found = block_indicators(np.array([0, 2, 1, 0]))
    assert found.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("kind", ["HC2", "HC3"])
def test_a_unit_of_leverage_one_has_coefficients_but_no_robust_errors(kind: str) -> None:
    y, x = draw()
    only = np.zeros(len(y))
    only[4] = 1.0
    fit = ols(y, np.column_stack([x, only]))
    assert fit.residuals[4] == pytest.approx(0)
    with pytest.raises(NotEstimable, match=f"decides a coefficient, so {kind} errors are undef"):
        fit.robust_se(kind)


def lone_unit(per_arm: int = 3) -> pd.DataFrame:
    """Draw three arms of which one unit alone differs in accuracy."""
    rng = np.random.default_rng(3)
    rows = [(f"{a}{i}", "x", a, rng.uniform(0.4, 0.6), 0.5) for a in "abc" for i in range(per_arm)]
    table = pd.DataFrame(rows, columns=["unit_id", "block", "arm", OUTCOME, "clean_acc"])
    table.loc[0, "clean_acc"] = 0.9
    return table


def test_every_estimator_follows_the_rule_for_leverage_one() -> None:
    units = lone_unit()
    with pytest.raises(NotEstimable, match="one unit alone decides"):
        fit_leakage_model(units, OUTCOME, "clean_acc", [])
    doses = {"a": 0.0, "b": 1.0, "c": 2.0}
    lonely = units.assign(block=["y", *["x"] * (len(units) - 1)])
    with pytest.raises(NotEstimable, match="one unit alone decides"):
        fit_dose_response(lonely, OUTCOME, doses, seed=0)
    with pytest.raises(NotEstimable, match="one unit alone decides"):
        compare_at_matched_accuracy(units, OUTCOME, "clean_acc", arm="c", line=["a", "b"])
    found = associate(units, OUTCOME, "clean_acc")
    assert found.slope is not None
    assert (found.se_hc2, found.se_hc3) == (None, None)


def literal_cr2(y: np.ndarray, x: np.ndarray, cluster: np.ndarray) -> tuple[float, float]:
    """Write Bell & McCaffrey (2002) and Pustejovsky & Tipton (2018) out, matrix by matrix."""
    n = len(y)
    bread = np.linalg.inv(x.T @ x)
    maker = np.eye(n) - x @ bread @ x.T
    pieces, meat = [], np.zeros((x.shape[1], x.shape[1]))
    for g in np.unique(cluster):
        pick = np.eye(n)[cluster == g]
        values, vectors = np.linalg.eigh(pick @ maker @ pick.T)
        root = vectors @ np.diag(values**-0.5) @ vectors.T
        score = x[cluster == g].T @ root @ (pick @ maker @ y)
        meat += np.outer(score, score)
        pieces.append(maker @ pick.T @ root @ x[cluster == g] @ bread[:, 0])
    cross = np.array([[p @ q for q in pieces] for p in pieces])
    return float((bread @ meat @ bread)[0, 0]), float(np.trace(cross) ** 2 / np.sum(cross * cross))


def test_cr2_equals_its_definition_for_unequal_clusters() -> None:
    rng = np.random.default_rng(2)
    cluster = np.repeat(np.arange(7), [2, 5, 3, 1, 4, 6, 2])
    z = np.isin(cluster, [0, 2, 5]).astype(float)
    x = np.column_stack([z, np.ones(len(z)), rng.normal(size=len(z))])
    y = rng.normal(size=len(z)) + rng.normal(size=7)[cluster]
    _, variance, df = cr2(y, x, cluster)
    assert (variance, df) == pytest.approx(literal_cr2(y, x, cluster))


@pytest.mark.parametrize(("n1", "n0"), [(3, 3), (4, 9), (3, 27)])
def test_degrees_of_freedom_equal_imbens_and_kolesar(n1: int, n0: int) -> None:
    """Imbens & Kolesar (2016), Sec. III: Bell-McCaffrey df of a two-group comparison."""
    z = np.repeat([1.0, 0.0], [n1, n0])
    y = np.random.default_rng(0).normal(size=n1 + n0)
    _, variance, df = cr2(y, np.column_stack([z, np.ones(n1 + n0)]), np.arange(n1 + n0))
    total = (n0 + n1) ** 2 * (n0 - 1) * (n1 - 1)
    assert df == pytest.approx(total / (n1**2 * (n1 - 1) + n0**2 * (n0 - 1)))
    assert variance == pytest.approx(y[:n1].var(ddof=1) / n1 + y[n1:].var(ddof=1) / n0)


def test_cr2_of_single_rows_is_hc2() -> None:
    y, x = draw()
    fit = ols(y, x)
    estimate, variance, _ = cr2(y, x, np.arange(len(y)))
    assert estimate == pytest.approx(fit.coefficients[0])
    assert variance == pytest.approx(fit.robust_covariance("HC2")[0, 0])


def clusters(blocks: dict[str, str]) -> pd.DataFrame:
    """Draw two rows a cluster; ``blocks`` gives the arms of the clusters of each block."""
    rng = np.random.default_rng(4)
    rows = [
        (f"{b}{i}", b, arm, rng.uniform(0.4, 0.6))
        for b, arms in blocks.items()
        for i, arm in enumerate(arms)
        for _ in range(2)
    ]
    return pd.DataFrame(rows, columns=["unit_id", "block", "arm", OUTCOME])


def test_a_cluster_alone_in_its_block_changes_no_error_of_the_effect() -> None:
    pair = {"arm": "a", "against": "b"}
    both = clusters({"x": "aabb"})
    more = pd.concat([both, clusters({"y": "a"})])
    found, expected = (clustered_difference(t, OUTCOME, **pair) for t in (more, both))
    assert (found.estimate, found.se, found.df) == pytest.approx(
        (expected.estimate, expected.se, expected.df)
    )


def test_a_cluster_that_alone_decides_the_effect_is_refused() -> None:
    table = clusters({"x": "abb", "y": "a"})  # the effect is the one a of x less its b
    with pytest.raises(NotEstimable, match="one cluster alone decides the effect"):
        clustered_difference(table, OUTCOME, arm="a", against="b")
