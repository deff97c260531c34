"""Record of a campaign in MLflow: find it, check its version, read it into tables.

:func:`load_record` reads a campaign into a :class:`Record` of data frames. :class:`Store` is the
one client of MLflow below it; :class:`Unreachable` is raised where the store does not answer.

>>> from analysis.record import load_record
>>> load_record("orl-rct.db", "orl-rct")  # doctest: +ELLIPSIS
Traceback (most recent call last):
    ...
ValueError: the MLflow address 'orl-rct.db' is of no known kind; use http://HOST:PORT or ...
"""

from typing import TYPE_CHECKING, Any

from analysis.record.address import Unreachable
from analysis.record.store import Store

if TYPE_CHECKING:
    from analysis.record.reader import Record, load_record

__all__ = ["Record", "Store", "Unreachable", "load_record"]


def __getattr__(name: str) -> Any:
    """Import the reader, and pandas with it, where it is first used."""
    if name in ("Record", "load_record"):
        from analysis.record import reader

        return getattr(reader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
