"""Record of a campaign in MLflow: find it, check its version, read it into tables.

:func:`load_record` reads a campaign from an MLflow :class:`Store` into a :class:`Record` of data
frames, and :func:`record_from_units` builds one from a table. :class:`Unreachable` is raised where
a store does not answer.

>>> import pandas as pd
>>> from analysis.record import record_from_units
>>> units = pd.DataFrame({
...     "unit_id": ["u1", "u2", "u3", "u4"],
...     "block": ["b", "b", "b", "b"],
...     "arm": ["control", "treatment", "treatment", "control"],
...     "standard/att_acc_1": [0.92, 0.61, 0.58, 0.89],
... })
>>> record = record_from_units(
...     units, outcome="standard/att_acc_1", arm="treatment", against="control"
... )
>>> record.protocol["contrasts"]
{'primary': {'arm': 'treatment', 'against': 'control'}}
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from analysis.record.errors import Unreachable
from analysis.record.store import Store

if TYPE_CHECKING:
    from analysis.record.from_units import record_from_units
    from analysis.record.reader import Record, load_record

__all__ = ["Record", "Store", "Unreachable", "load_record", "record_from_units"]

_MODULES = {"Record": "reader", "load_record": "reader", "record_from_units": "from_units"}


def __getattr__(name: str) -> Any:
    """Import the reader, and pandas with it, at its first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
