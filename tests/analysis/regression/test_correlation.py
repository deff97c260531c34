"""Correlations of leakage with accuracy, over clusters and within; slopes by statsmodels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from analysis.regression.correlation import associate, explained_variance


@pytest.fixture
def clusters() -> pd.DataFrame:
    """Return two arms far apart; within an arm leakage and accuracy are unrelated."""
    rng = np.random.default_rng(0)
    arm = np.repeat(["a", "b"], 40)
    shift = np.where(arm == "a", 0.0, 0.6)
    return pd.DataFrame(
        {
            "arm": arm,
            "leakage": 0.3 + shift / 2 + rng.normal(0, 0.03, 80),
            "robust": 0.2 + shift + rng.normal(0, 0.03, 80),
            "clean": 0.9 + shift / 10 + rng.normal(0, 0.02, 80),
        }
    )


def test_distant_arms_correlate_over_all_units_and_not_within_arms(
    clusters: pd.DataFrame,
) -> None:
    found = associate(clusters, "leakage", "robust")
    assert found.pooled is not None
    assert found.within is not None
    assert found.pooled > 0.95
    assert abs(found.within) < 0.3
    assert set(found.by_arm) == {"a", "b"}


def test_slope_and_errors_equal_statsmodels(clusters: pd.DataFrame) -> None:
    found = associate(clusters, "leakage", "robust")
    design = sm.add_constant(clusters["robust"].to_numpy())
    for kind, error in (("HC2", found.se_hc2), ("HC3", found.se_hc3)):
        fit = sm.OLS(clusters["leakage"].to_numpy(), design).fit(cov_type=kind)
        assert (found.slope, error) == pytest.approx((fit.params[1], fit.bse[1]))


def test_explained_variance_equals_statsmodels(clusters: pd.DataFrame) -> None:
    found = explained_variance(clusters, "leakage", "robust", "clean")
    for columns, value in (
        (["robust"], found.robust),
        (["clean"], found.clean),
        (["robust", "clean"], found.both),
    ):
        fit = sm.OLS(clusters["leakage"], sm.add_constant(clusters[columns])).fit()
        assert value == pytest.approx(fit.rsquared)


def test_a_constant_accuracy_has_no_correlation(clusters: pd.DataFrame) -> None:
    clusters.loc[clusters["arm"] == "a", "robust"] = 0.0
    found = associate(clusters, "leakage", "robust")
    assert found.by_arm["a"] is None
    assert "undefined" not in str(found)
    none = associate(clusters.assign(robust=0.0), "leakage", "robust")
    assert (none.pooled, none.slope) == (None, None)
    assert "undefined" in str(none)
