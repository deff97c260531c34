"""Statistics of randomised trials: estimates, intervals, exact p-values and a report.

``analysis`` turns the record of a campaign in MLflow into a report (``python -m analysis``), and
its estimators work on any DataFrame with one row a unit of randomisation. It imports neither ray,
torch, ``atat_ray`` nor ``trials``, and this module imports nothing: take names from a sub-package.

=======================  ==========================================================================
sub-package              what it does
=======================  ==========================================================================
``analysis.schema``      names, columns and units of a record: the contract with ``trials``
``analysis.record``      reads a campaign's record from MLflow into tables
``analysis.inference``   comparisons of arms that the random allocation itself justifies
``analysis.regression``  models beyond that: Beta, counts, dose, leakage, instruments, matching
``analysis.claims``      verdict on the claim of a protocol, by its margin
``analysis.planning``    power, size and interval width of a design, by simulation
``analysis.pipeline``    the registered analysis: every contrast on every outcome of a record
``analysis.secondary``   the secondary analyses of the report, one module each
``analysis.formatting``  text of numbers and tables
``analysis.report``      sentences, figures and the page
=======================  ==========================================================================

>>> import pandas as pd
>>> from analysis.inference import difference_in_means
>>> units = pd.DataFrame(
...     {
...         "unit_id": ["u1", "u2", "u3", "u4", "u5", "u6"],
...         "block": ["x", "x", "x", "x", "x", "x"],
...         "arm": ["control", "treatment", "control", "treatment", "control", "treatment"],
...         "leakage": [0.9, 0.6, 0.8, 0.7, 0.9, 0.7],
...     }
... )
>>> effect = difference_in_means(units, "leakage", arm="treatment", against="control")
>>> print(f"{effect.estimate:.1f} {effect.unit} ({effect.low:.1f} to {effect.high:.1f})")
-20.0 pp (-31.9 to -4.1)
"""
