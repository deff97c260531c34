"""Errors of a tracking store: what a library raised, as one line with the remedy that fits."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from functools import wraps
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from analysis.record.address import Address

REBUILD = (
    "correct the address, or restore the file; in the folder of a campaign, `atat resume` rebuilds "
    "the record from the folders of the units"
)
SIGN_IN = (
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, to sign "
    "in there"
)
LONGEST = 300  # characters of a library's message
OUR_PACKAGES = ("analysis", "trials", "atat_ray")
LIBRARIES = ("mlflow", "sqlalchemy", "alembic", "requests", "urllib3")
REFUSED = ("UNAUTHENTICATED", "PERMISSION_DENIED")  # MLflow's codes of HTTP 401 and 403

_Method = TypeVar("_Method", bound=Callable[..., Any])


class Unreachable(ValueError):
    """The tracking store does not answer or refuses a request; this may pass."""


class Damaged(ValueError):
    """The database of the tracking store is damaged; this does not pass."""


def translate_mlflow_errors(method: _Method) -> _Method:
    """Turn errors of MLflow, its transport, its database and its drivers into one line.

    Args:
        method: of an object whose attribute ``uri`` is the :class:`Address` of the store.
    """

    @wraps(method)
    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return method(self, *arguments, **options)
        except Exception as error:
            if not _is_of_library(error):
                raise
            raise record_error(error, self.uri) from error

    return call  # type: ignore[return-value]


def record_error(error: BaseException, address: Address) -> ValueError:
    """Say in one line what an error of a library means for a record, and what to do.

    Returns:
        :class:`Unreachable` for what may pass, :class:`Damaged` for a damaged database, and
        ValueError for what stays until the user changes something.
    """
    chain = list(_causes(error))
    for cause in chain:
        if isinstance(cause, sqlite3.Error):
            found = database_error(cause, address)
            if found is not None:
                return found
    missing = next((cause for cause in chain if isinstance(cause, ImportError)), None)
    if missing is not None:
        package = missing.name or shorten(missing, address)
        return ValueError(
            f"the record at {address} needs the Python package {package!r}, which is not "
            "installed; install it, or keep the record at another address"
        )
    text = shorten(error, address)
    if "out-of-date database schema" in text or type(error).__module__.startswith("alembic"):
        return ValueError(
            f"the database {address} is of another version of MLflow than this one, "
            f"{version('mlflow')}: {text}; make a copy, then `mlflow db upgrade` upgrades an older "
            "database; for a newer one, install the MLflow that wrote it"
        )
    if getattr(error, "error_code", "") in REFUSED:
        return Unreachable(f"{address} refuses the request: {text}; {SIGN_IN}")
    return Unreachable(f"{address}: {text}")


def database_error(error: sqlite3.Error, address: Address) -> ValueError | None:
    """Say what an error of sqlite means for a record; None if the database is not to blame."""
    path, text = address.database, " ".join(str(error).split())
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unreachable(
            f"another process holds the database {path} ({text}); wait until it has ended, and run "
            "the same command again"
        )
    if code == sqlite3.SQLITE_NOTADB:
        return Damaged(f"{path} is not an MLflow database, or is damaged ({text}); {REBUILD}")
    if code == sqlite3.SQLITE_CORRUPT or text.startswith("no such table"):
        return Damaged(f"the database {path} is damaged ({text}); {REBUILD}")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return Unreachable(f"the database {path} cannot be written ({text}); make it writable")
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return Unreachable(f"the database {path} cannot be used ({text}); free some space")
    return None


def shorten(error: BaseException, address: Address) -> str:
    """Write an error in one printable line without the secrets of the address."""
    text = "".join(c if c.isprintable() else " " for c in address.hide(str(error)))
    return " ".join(text.split())[:LONGEST]


def _is_of_library(error: BaseException) -> bool:
    """Tell whether a library raised an error; errors of files stay what they are."""
    package = type(error).__module__.partition(".")[0]
    if package != "builtins" or isinstance(error, ImportError):
        return package not in OUR_PACKAGES
    if isinstance(error, OSError):
        return False
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] in LIBRARIES:
            return True
        trace = trace.tb_next
    return False


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Generate an error and what led to it; SQLAlchemy keeps the driver's error as ``orig``."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        cause = waiting.pop(0)
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [getattr(cause, "orig", None), cause.__cause__, cause.__context__]
