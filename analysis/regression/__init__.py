"""Models that go beyond the comparison of arms: Beta, counts, dose, leakage, instruments, matching.

Every function takes a plain DataFrame with one row a unit (a training run), and returns a result
object that can be printed. These are sensitivity analyses and descriptions: what they assume stands
in their docstrings, and the comparison that the allocation justifies is in
:mod:`analysis.inference`. statsmodels is imported by the Beta regression only.

===================================  ==============================================================
task                                 function
===================================  ==============================================================
Beta regression of an outcome        :func:`beta_effect`; :func:`fit_beta` of arrays
outcomes of exactly 0 or 1           :func:`beta_binomial_effect` of counts,
                                     :func:`fractional_logit_effect`, :func:`squeezed_effect`
trend over doses                     :func:`fit_dose_response`
leakage on accuracies                :func:`fit_leakage_model`; :func:`cost_table` of a point
correlation, variance explained      :func:`associate`, :func:`explained_variance`
mechanism: instruments, mediation    :func:`wald_ratio`, :func:`two_stage`, :func:`mediation`
leakage at equal accuracy            :func:`compare_at_matched_accuracy`
===================================  ==============================================================

>>> import pandas as pd
>>> from analysis.regression import fit_dose_response
>>> units = pd.DataFrame(
...     {
...         "unit_id": [f"run-{i}" for i in range(12)],
...         "block": ["x", "y"] * 6,
...         "arm": ["none"] * 4 + ["weak"] * 4 + ["strong"] * 4,
...         "leakage": [0.9, 0.8, 0.9, 0.9, 0.8, 0.7, 0.8, 0.8, 0.6, 0.5, 0.6, 0.5],
...     }
... )
>>> doses = {"none": 0, "weak": 1, "strong": 4}
>>> trend = fit_dose_response(units, "leakage", doses, seed=0)
>>> print(f"{trend.slope:.1f} {trend.unit} for one unit of dose, p = {trend.jonckheere_p:.4f}")
-8.0 pp for one unit of dose, p = 0.0006
"""

from analysis.regression.beta import beta_effect, fit_beta
from analysis.regression.correlation import associate, explained_variance
from analysis.regression.dose_response import fit_dose_response
from analysis.regression.fractions import (
    beta_binomial_effect,
    fractional_logit_effect,
    squeezed_effect,
)
from analysis.regression.leakage_model import cost_table, fit_leakage_model
from analysis.regression.matched_accuracy import compare_at_matched_accuracy
from analysis.regression.mechanism import mediation, two_stage, wald_ratio

__all__ = [
    "associate",
    "beta_binomial_effect",
    "beta_effect",
    "compare_at_matched_accuracy",
    "cost_table",
    "explained_variance",
    "fit_beta",
    "fit_dose_response",
    "fit_leakage_model",
    "fractional_logit_effect",
    "mediation",
    "squeezed_effect",
    "two_stage",
    "wald_ratio",
]
