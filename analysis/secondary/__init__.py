"""Secondary analyses: what the report adds to the registered comparisons.

One module a section (:class:`Section`: estimate, table, sentence). To add one, write its module
and add its name to :data:`analysis.secondary.registry.SECTIONS`; the page, ``tables.md`` and the
CSV files follow.

>>> import pandas as pd
>>> from analysis.pipeline import analyse
>>> from analysis.record import record_from_units
>>> from analysis.secondary import analyse_secondary
>>> leakage = {"control": [0.92, 0.89, 0.95, 0.90], "treatment": [0.61, 0.58, 0.66, 0.60]}
>>> units = pd.DataFrame([
...     {"unit_id": f"{arm}-{i}", "block": "b", "arm": arm, "standard/att_acc_1": value}
...     for arm, values in leakage.items() for i, value in enumerate(values)
... ])
>>> record = record_from_units(
...     units, outcome="standard/att_acc_1", arm="treatment", against="control"
... )
>>> secondary = analyse_secondary(record, analyse(record))
>>> for model in secondary["sensitivity"].models:
...     print(f"{model.method}: {model.estimate:.1f} pp")
fractional logit, HC2: -30.2 pp
Beta regression, outcomes squeezed with N = 8: -26.5 pp
"""

from analysis.secondary.context import Context, SecondaryResults, analyse_secondary
from analysis.secondary.interface import Section

__all__ = ["Context", "SecondaryResults", "Section", "analyse_secondary"]
