"""Check the address of a tracking store: driver, server, database; nothing is created."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from analysis.record.address import Address
from analysis.record.errors import REBUILD, SIGN_IN, Damaged, Unreachable, database_error, shorten

if TYPE_CHECKING:
    from requests import Response

SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
ANSWER_SECONDS = 15.0  # a server on a busy machine may need some of it
TABLES = {"alembic_version", "experiments", "latest_metrics", "metrics", "params", "runs", "tags"}
LOCK_SECONDS = 5.0  # in which another process may give up its lock on a database


def check_address(uri: str, *, must_exist: bool, timeout: float = ANSWER_SECONDS) -> None:
    """Refuse an address that cannot be used, at once and without creating a database there.

    MLflow itself retries a server that does not answer for minutes, and creates a database file
    that is missing.

    Args:
        uri: address of the tracking store.
        must_exist: whether a sqlite file must hold an MLflow database already, as for reading.
        timeout: seconds within which a server must answer.

    Raises:
        Unreachable: the server does not answer in time or is not MLflow's, or another process
            holds the database.
        Damaged: the file of a sqlite address is no database, or a damaged one.
        ValueError: the address is malformed, of an unknown kind or one that the user did not give,
            its database driver is not installed, or there is no MLflow database in the file.
    """
    address = Address(uri)
    full = address.full
    try:
        scheme = urlsplit(full).scheme
    except ValueError as error:
        raise ValueError(
            f"the MLflow address {str(address)!r} is malformed: {shorten(error, address)}"
        ) from error
    database = scheme.partition("+")[0]
    if database not in SCHEMES:
        raise ValueError(
            f"the MLflow address {str(address)!r} is of no known kind; use http://HOST:PORT or "
            "sqlite:////ABSOLUTE/PATH.db, or a database of postgresql, mysql or mssql"
        )
    if address.is_server:
        _check_server(address, timeout, may_leave_out=not must_exist)
        return
    if scheme != "sqlite":  # the driver of plain sqlite is in the standard library
        _check_driver(address)
    if address.database is not None:
        _check_sqlite(address, must_exist=must_exist)


def _check_server(address: Address, timeout: float, *, may_leave_out: bool) -> None:
    import requests

    try:
        url = f"{address.full}/health"
        answer = requests.get(url, timeout=timeout, allow_redirects=False)
    except requests.exceptions.SSLError:
        return  # the server answers; MLflow's own settings decide which certificates are valid
    except requests.Timeout:
        reason = f"nothing within {timeout:g} s"
    except (requests.RequestException, ValueError) as error:
        reason = type(error).__name__
    else:
        _check_answer(address, answer)
        reason = f"HTTP {answer.status_code}" if answer.status_code >= 500 else ""
    if not reason:
        return
    ways = ["start it", "correct the address"]
    if may_leave_out:
        ways.append("leave it out to keep the record in the campaign's folder")
    raise Unreachable(
        f"the MLflow server {address} does not answer ({reason}); "
        f"{', '.join(ways[:-1])}{',' if len(ways) > 2 else ''} or {ways[-1]}"
    )


def _check_answer(address: Address, answer: Response) -> None:
    """Refuse the answer of a login page or of another program; MLflow's is the word OK.

    A path that is not found or not allowed says nothing: MLflow's own requests decide.
    """
    if answer.is_redirect:
        target = shorten(ValueError(answer.headers["location"]), address)
        raise Unreachable(
            f"{address} sends its visitors to {target}: a login page, or another address of the "
            f"MLflow server; give the address that answers itself, or {SIGN_IN}"
        )
    if answer.status_code == 200 and answer.text.strip() != "OK":
        raise Unreachable(
            f"{address} answers with a page that is not MLflow's: a login page, or another "
            f"program; correct the address, or {SIGN_IN}"
        )


def _check_driver(address: Address) -> None:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        make_url(address.full).get_dialect().import_dbapi()
    except (SQLAlchemyError, ValueError) as error:
        reason = shorten(error, address)
        raise ValueError(f"the MLflow address {str(address)!r} cannot be used: {reason}") from error
    except ImportError as error:
        raise ValueError(
            f"the MLflow address {str(address)!r} needs the Python package {error.name!r}; install "
            "it, or use http://HOST:PORT or sqlite:////ABSOLUTE/PATH.db"
        ) from error


def _check_sqlite(address: Address, *, must_exist: bool) -> None:
    """Refuse a file that is missing, locked, damaged, or a database of another program.

    The file is opened for writing, because sqlite then repairs what a killed process left half
    done; nothing else is written, and nothing is created.
    """
    path = address.database
    assert path is not None, "only called for the file of a sqlite address"
    if not path.is_file():
        if must_exist or path.exists():
            raise ValueError(
                f"there is no MLflow record at {str(address)!r}: no such file; {REBUILD}"
            )
        return
    try:
        with closing(
            sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=LOCK_SECONDS)
        ) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            (problem,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        raise database_error(error, address) or Damaged(
            f"the database {path} cannot be read ({error}); {REBUILD}"
        ) from error
    if problem != "ok":
        reason = " ".join(problem.split())
        raise Damaged(f"the database {path} is damaged ({reason}); {REBUILD}")
    if not tables & TABLES and (tables or must_exist):
        raise ValueError(f"{str(path)!r} is not an MLflow database; {REBUILD}")
    if tables and not tables >= TABLES:
        missing = ", ".join(sorted(TABLES - tables))
        raise Damaged(f"the database {path} is damaged (without {missing}); {REBUILD}")
