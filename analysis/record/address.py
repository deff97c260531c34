"""Address of an MLflow tracking store: its full form, its check, and what its errors mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from analysis import schema

SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
ANSWER_SECONDS = 15.0  # a server on a busy machine may need some of it

_Method = TypeVar("_Method", bound=Callable[..., Any])


class Unreachable(ValueError):
    """The tracking store does not answer or refuses a request."""


def translate_mlflow_errors(method: _Method) -> _Method:
    """Turn errors of MLflow, its transport and its database into :class:`Unreachable`.

    Args:
        method: of an object whose attribute ``uri`` is the address of the store.
    """

    @wraps(method)
    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        from mlflow.exceptions import MlflowException
        from requests import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return method(self, *arguments, **options)
        except (MlflowException, RequestException, SQLAlchemyError) as error:
            raise Unreachable(f"{self.uri}: {' '.join(str(error).split())[:300]}") from error

    return call  # type: ignore[return-value]


def full_address(uri: str) -> str:
    """Make the path of a sqlite address absolute, so that it is the same from every directory.

    Other addresses, and the database in memory, are returned unchanged.
    """
    scheme, slashes, path = uri.partition(":///")
    if scheme.partition("+")[0] != "sqlite" or not path or path.startswith(":memory:"):
        return uri
    return f"{scheme}{slashes}{Path(path).absolute()}"


def check_address(uri: str, *, must_exist: bool, timeout: float = ANSWER_SECONDS) -> None:
    """Refuse an address that cannot be used, at once and without creating a database there.

    MLflow itself retries a server that does not answer for minutes, and creates a database file
    that is missing.

    Args:
        uri: address of the tracking store.
        must_exist: whether a sqlite file must hold an MLflow database already, as for reading.
        timeout: seconds within which a server must answer.

    Raises:
        Unreachable: the server does not answer in time.
        ValueError: the address is malformed or of an unknown kind, its database driver is not
            installed, or there is no MLflow database in the file.
    """
    try:
        scheme = urlsplit(uri).scheme
    except ValueError as error:
        raise ValueError(f"the MLflow address {uri!r} is malformed: {error}") from error
    database = scheme.partition("+")[0]
    if database not in SCHEMES:
        raise ValueError(
            f"the MLflow address {uri!r} is of no known kind; use http://HOST:PORT or "
            "sqlite:////ABSOLUTE/PATH.db, or a database of postgresql, mysql or mssql"
        )
    if scheme in ("http", "https"):
        _check_server(uri, timeout, may_leave_out=not must_exist)
        return
    if scheme != "sqlite":  # the driver of plain sqlite is in the standard library
        _check_driver(uri)
    if database == "sqlite" and must_exist:
        _check_sqlite(uri)


def _check_server(uri: str, timeout: float, *, may_leave_out: bool) -> None:
    import requests

    try:
        answer = requests.get(f"{uri.rstrip('/')}/health", timeout=timeout)
        reason = f"HTTP {answer.status_code}" if answer.status_code >= 500 else ""
    except requests.exceptions.SSLError:
        return  # the server answers; MLflow's own settings decide which certificates are valid
    except requests.Timeout:
        reason = f"nothing within {timeout:g} s"
    except (requests.RequestException, ValueError) as error:
        reason = type(error).__name__
    if not reason:
        return
    ways = ["start it", "correct the address"]
    if may_leave_out:
        ways.append("leave it out to keep the record in the campaign's folder")
    raise Unreachable(
        f"the MLflow server {uri} does not answer ({reason}); "
        f"{', '.join(ways[:-1])}{',' if len(ways) > 2 else ''} or {ways[-1]}"
    )


def _check_driver(uri: str) -> None:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        make_url(uri).get_dialect().import_dbapi()
    except (SQLAlchemyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"the MLflow address {uri!r} cannot be used: {reason}") from error
    except ImportError as error:
        raise ValueError(
            f"the MLflow address {uri!r} needs the Python package {error.name!r}; install it, or "
            "use http://HOST:PORT or sqlite:////ABSOLUTE/PATH.db"
        ) from error


def _check_sqlite(uri: str) -> None:
    path = schema.database_of(uri)
    if not path.is_file():
        raise ValueError(f"there is no MLflow record at {uri!r}: no such file; correct the address")
    query = "SELECT count(*) FROM sqlite_master WHERE name = 'experiments'"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            (found,) = connection.execute(query).fetchone()
    except sqlite3.DatabaseError:
        found = 0
    if not found:
        raise ValueError(f"{str(path)!r} is not an MLflow database; correct the address")
