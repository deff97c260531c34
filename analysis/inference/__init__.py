"""Comparisons of arms that the random allocation itself justifies.

Every function takes a plain DataFrame with one row a unit (a training run) and the columns
``unit_id``, ``block`` and ``arm``, and returns a result object that can be printed. Fractions in
[0, 1] are compared in percentage points. What a table does not allow raises
:class:`NotEstimable`, whose message says what is missing.

========================  =========================================================================
task                      function
========================  =========================================================================
means of the arms         :func:`arm_means`
effect and its interval   :func:`difference_in_means`
exact p of no effect      :func:`randomisation_test`
repeated measures         :func:`clustered_difference`
several outcomes          :func:`max_t`; :func:`benjamini_hochberg` for exploratory tables
several arms              :func:`dunnett`
non-inferiority           :func:`margin_test`
units that failed         :func:`attrition_bounds`
effects by class          :func:`class_heterogeneity`
interim looks             :func:`plan_looks`, :func:`stagewise_interval`
smallest p of a design    :func:`smallest_p`
========================  =========================================================================

>>> import pandas as pd
>>> from analysis.inference import difference_in_means, randomisation_test
>>> units = pd.DataFrame(
...     {
...         "unit_id": [f"run-{i}" for i in range(12)],
...         "block": ["x"] * 6 + ["y"] * 6,
...         "arm": ["control", "treatment"] * 6,
...         "leakage": [0.9, 0.6, 0.8, 0.7, 0.9, 0.7, 0.8, 0.6, 0.7, 0.5, 0.9, 0.6],
...     }
... )
>>> pair = {"arm": "treatment", "against": "control"}
>>> effect = difference_in_means(units, "leakage", **pair)
>>> print(f"{effect.estimate:.1f} {effect.unit} ({effect.low:.1f} to {effect.high:.1f})")
-21.7 pp (-30.4 to -9.8)
>>> print(randomisation_test(units, "leakage", **pair, seed=0))
treatment - control: -21.7 pp, p = 0.005 (exact over 400 allocations, smallest attainable 0.005)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.inference.attrition import attrition_bounds
    from analysis.inference.clustered import clustered_difference
    from analysis.inference.difference import arm_means, difference_in_means
    from analysis.inference.group_sequential import plan_looks, stagewise_interval
    from analysis.inference.heterogeneity import class_heterogeneity
    from analysis.inference.multiplicity import benjamini_hochberg, dunnett, max_t
    from analysis.inference.noninferiority import margin_test
    from analysis.inference.randomisation import randomisation_test
    from analysis.inference.reallocation import smallest_p
    from analysis.inference.table_checks import NotEstimable

__all__ = [
    "NotEstimable",
    "arm_means",
    "attrition_bounds",
    "benjamini_hochberg",
    "class_heterogeneity",
    "clustered_difference",
    "difference_in_means",
    "dunnett",
    "margin_test",
    "max_t",
    "plan_looks",
    "randomisation_test",
    "smallest_p",
    "stagewise_interval",
]

# A module is imported when one of its names is used: planning a trial needs reallocation alone,
# which takes a tenth of the time of all modules.
_MODULES = {
    "NotEstimable": "table_checks",
    "arm_means": "difference",
    "attrition_bounds": "attrition",
    "benjamini_hochberg": "multiplicity",
    "class_heterogeneity": "heterogeneity",
    "clustered_difference": "clustered",
    "difference_in_means": "difference",
    "dunnett": "multiplicity",
    "margin_test": "noninferiority",
    "max_t": "multiplicity",
    "plan_looks": "group_sequential",
    "randomisation_test": "randomisation",
    "smallest_p": "reallocation",
    "stagewise_interval": "group_sequential",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names before they are imported, too."""
    return sorted({*globals(), *__all__})
