"""Dose and response: Jonckheere against its definition, the line against statsmodels."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from analysis.inference.table_checks import NotEstimable
from analysis.regression.dose_response import fit_dose_response

OUTCOME = "standard/att_acc_1"
DOSES = {"none": 0.0, "low": 1.0, "high": 4.0}


def doses_table(slope: float, per_cell: int = 4, blocks: int = 2, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        (f"b{b}/{a}{i}", f"b{b}", a, 0.7 - 0.1 * b + slope * d + rng.normal(0, 0.03))
        for b in range(blocks)
        for a, d in DOSES.items()
        for i in range(per_cell)
    ]
    return pd.DataFrame(rows, columns=["unit_id", "block", "arm", OUTCOME])


def test_jonckheere_counts_pairs_and_the_line_is_ols_hc2() -> None:
    units = doses_table(-0.02)
    found = fit_dose_response(units, OUTCOME, DOSES, seed=1)
    rows = units.assign(dose=units["arm"].map(DOSES)).to_dict("records")
    count = sum(
        np.sign(q["dose"] - p["dose"]) * np.sign(q[OUTCOME] - p[OUTCOME])
        for p, q in combinations(rows, 2)
        if p["block"] == q["block"]
    )
    assert found.jonckheere == count
    x = np.column_stack([units["arm"].map(DOSES), pd.get_dummies(units["block"])]).astype(float)
    fit = sm.OLS(100 * units[OUTCOME].to_numpy(), x).fit(cov_type="HC2")
    assert (found.slope, found.se) == pytest.approx((fit.params[0], fit.bse[0]))
    assert (found.linear_p, found.jonckheere_p) < (0.001, 0.001)
    assert list(found.doses) == ["none", "low", "high"]


def test_both_trend_tests_keep_their_size() -> None:
    drawn = [
        fit_dose_response(doses_table(0.0, 2, seed=s), OUTCOME, DOSES, seed=s) for s in range(150)
    ]
    for p in ([d.linear_p for d in drawn], [d.jonckheere_p for d in drawn]):
        assert np.mean(np.array(p) <= 0.1) < 0.17


def test_fewer_than_three_doses_are_refused() -> None:
    with pytest.raises(NotEstimable, match="three doses or more, got .0.0, 1.0."):
        fit_dose_response(doses_table(0.0), OUTCOME, {"none": 0.0, "low": 1.0}, seed=1)
    units = doses_table(0.0)
    with pytest.raises(NotEstimable, match="no finished unit of high"):
        fit_dose_response(units[units["arm"] != "high"], OUTCOME, DOSES, seed=1)
