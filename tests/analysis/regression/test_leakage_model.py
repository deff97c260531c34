"""The leakage model and its cost table, against statsmodels and refits by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.stats.outliers_influence import variance_inflation_factor

from analysis.inference.table_checks import NotEstimable
from analysis.regression.leakage_model import cost_table, fit_leakage_model

LEAKAGE, CLEAN = "standard/att_acc_1", "clean_acc"
ROBUST = ["robust_acc/0.0025", "robust_acc/0.005"]


def defenses(n: int = 5, per: int = 4, seed: int = 0) -> pd.DataFrame:
    """Draw defenses along one axis: leakage, clean and robust accuracies fall together."""
    rng = np.random.default_rng(seed)
    rows = []
    for d in range(n):
        for i in range(per):
            s = d / (n - 1) + rng.normal(0, 0.05)
            accuracies = (0.98 - 0.08 * s, 0.9 - 0.6 * s, 0.8 - 0.7 * s)
            noisy = [a + rng.normal(0, 0.01) for a in accuracies]
            rows.append((f"d{d}/{i}", f"d{d}", 0.9 - 0.5 * s + rng.normal(0, 0.02), *noisy))
    return pd.DataFrame(rows, columns=["unit_id", "arm", LEAKAGE, CLEAN, *ROBUST])


def fit(units: pd.DataFrame, columns: list[str], **kwargs: str):
    return sm.OLS(100 * units[LEAKAGE], sm.add_constant(100 * units[columns])).fit(**kwargs)


def test_model_equals_statsmodels_and_refits() -> None:
    units = defenses()
    columns = [CLEAN, *ROBUST]
    found = fit_leakage_model(units, LEAKAGE, CLEAN, ROBUST)
    plain, robust = fit(units, columns), fit(units, columns, cov_type="HC3")
    np.testing.assert_allclose(found.coefficients, plain.params.iloc[1:])
    np.testing.assert_allclose(found.se, robust.bse.iloc[1:])
    assert (found.r2, found.adjusted_r2) == pytest.approx((plain.rsquared, plain.rsquared_adj))
    exog = sm.add_constant(100 * units[columns]).to_numpy()
    assert found.vif == pytest.approx([variance_inflation_factor(exog, j) for j in (1, 2, 3)])
    f, p, _ = plain.compare_f_test(fit(units, ROBUST))
    assert (found.partial_f, found.partial_p) == pytest.approx((f, p))
    errors = []
    for i in units.index:
        model = fit(units.drop(index=i), columns)
        row = np.append(1.0, 100 * units.loc[i, columns].to_numpy(float))
        errors.append(100 * units.loc[i, LEAKAGE] - row @ model.params.to_numpy())
    total = np.sum((100 * (units[LEAKAGE] - units[LEAKAGE].mean())) ** 2)
    assert found.loo_r2 == pytest.approx(1 - np.sum(np.square(errors)) / total)
    assert found.loo_r2 < found.adjusted_r2 < found.r2
    assert "leave-one-defense-out" in str(found)


def test_each_defense_left_out_is_a_refit_without_it() -> None:
    units = defenses()
    found = fit_leakage_model(units, LEAKAGE, CLEAN, ROBUST)
    rest = fit(units[units["arm"] != "d2"], [CLEAN, *ROBUST])
    np.testing.assert_allclose(found.lodo["d2"], rest.params.iloc[1:])
    assert set(found.lodo) == {f"d{i}" for i in range(5)}
    assert found.lodo_r2 is not None
    assert found.lodo_r2 < found.r2


def test_collinear_accuracies_show_in_the_vif_and_unbounded_partial_costs() -> None:
    units = defenses()
    found = fit_leakage_model(units, LEAKAGE, CLEAN, ROBUST)
    assert max(found.vif) > 10
    costs = {c.accuracy: c for c in cost_table(units, LEAKAGE, CLEAN, ROBUST)}
    assert list(costs) == [*ROBUST, CLEAN]
    assert any(not c.partial_set.bounded for c in costs.values())
    for cost in costs.values():
        assert cost.simple_set.bounded
        assert cost.simple in cost.simple_set
        assert 0.0 not in cost.simple_set
        assert "partial" in str(cost)


def test_simple_and_reverse_slopes_equal_polyfit_and_partial_ones_differ() -> None:
    units = defenses()
    cost = cost_table(units, LEAKAGE, CLEAN, ROBUST)[0]
    x, y = units[ROBUST[0]].to_numpy(), units[LEAKAGE].to_numpy()
    r = np.corrcoef(x, y)[0, 1]
    assert cost.simple_slope == pytest.approx(np.polyfit(x, y, 1)[0])
    assert cost.reverse == pytest.approx(np.polyfit(y, x, 1)[0])
    assert cost.reverse / cost.simple == pytest.approx(r**2)
    assert abs(cost.partial / cost.simple) > 1.5


def test_too_few_units_and_constant_columns_are_refused() -> None:
    units = defenses(n=2, per=2)
    with pytest.raises(NotEstimable, match="4 units leave no degree of freedom for 4"):
        fit_leakage_model(units, LEAKAGE, CLEAN, ROBUST)
    units = defenses().assign(**{LEAKAGE: 0.5})
    with pytest.raises(NotEstimable, match="does not vary over the units"):
        fit_leakage_model(units, LEAKAGE, CLEAN, ROBUST)
    with pytest.raises(NotEstimable, match="clean_acc does not vary"):
        fit_leakage_model(defenses().assign(clean_acc=0.9), LEAKAGE, CLEAN, ROBUST)
