"""Registered analysis: every contrast of the protocol on every recorded outcome.

:func:`analyse` turns a record into :class:`Results`: the flow of units, means by arm, and one
comparison a contrast and outcome.

>>> import pandas as pd
>>> from analysis.pipeline import analyse
>>> from analysis.record import record_from_units
>>> leakage = {"control": [0.92, 0.89, 0.95, 0.90], "treatment": [0.61, 0.58, 0.66, 0.60]}
>>> units = pd.DataFrame([
...     {"unit_id": f"{arm}-{i}", "block": "b", "arm": arm, "standard/att_acc_1": value}
...     for arm, values in leakage.items() for i, value in enumerate(values)
... ])
>>> results = analyse(record_from_units(
...     units, outcome="standard/att_acc_1", arm="treatment", against="control"
... ))
>>> round(results.primary.difference.estimate, 1), round(results.primary.randomisation.p, 3)
(-30.2, 0.029)
"""

from analysis.pipeline.primary import Comparison, Contrast, Results, analyse

__all__ = ["Comparison", "Contrast", "Results", "analyse"]
