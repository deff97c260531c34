"""Check the address of a record before it is opened."""

from __future__ import annotations

import shlex
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from analysis import schema

if TYPE_CHECKING:
    from mlflow.entities import Run

_DATABASES = ("postgresql", "mysql", "mssql")  # that MLflow takes beside sqlite
_ANSWER_SECONDS = 5.0


def check_address(uri: str) -> None:
    """Refuse an address that leads nowhere, at once and without creating a database there."""
    scheme = urlsplit(uri).scheme
    if scheme in ("http", "https"):
        _check_server(uri)
    elif scheme == "sqlite":
        _check_sqlite(uri)
    elif scheme.partition("+")[0] not in _DATABASES:
        raise ValueError(
            f"{uri!r} is no address of an MLflow record: a tracking address is sqlite:///FILE, "
            f"http(s)://HOST:PORT, or a database of {', '.join(_DATABASES)}"
        )


def _check_server(uri: str) -> None:
    # MLflow retries an address that does not answer for minutes; any HTTP answer will do here.
    import requests

    try:
        requests.get(uri, timeout=_ANSWER_SECONDS, stream=True).close()
    except requests.RequestException as error:
        raise ValueError(
            f"no answer from {uri!r} within {_ANSWER_SECONDS:g} s ({type(error).__name__}); "
            "is the MLflow server running, and is the tracking address right?"
        ) from error


def _check_sqlite(uri: str) -> None:
    path = Path(uri.split("?", 1)[0].removeprefix("sqlite:///"))
    if not path.is_file():
        raise ValueError(f"no MLflow record at {uri!r}: no such file; check --tracking-uri")
    query = "SELECT count(*) FROM sqlite_master WHERE name = 'experiments'"
    try:
        with sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True) as connection:
            (found,) = connection.execute(query).fetchone()
        connection.close()
    except sqlite3.DatabaseError:
        found = 0
    if not found:
        raise ValueError(f"{str(path)!r} is not an MLflow database; check --tracking-uri")


def check_place(uri: str, parent: Run, name: str) -> None:
    """Refuse a record that was moved or copied, and would be read with the files of its old place.

    Raises:
        ValueError: it says what corrects the record, as nothing is written here.
    """
    former = schema.moved_from(uri, parent.info.artifact_uri or "")
    if former is not None:
        folder = schema.database_of(uri).parent
        command = "resume" if parent.data.tags[schema.KIND_TAG] == schema.KIND_SWEEP else "verify"
        raise ValueError(
            f"{folder} was moved or copied, and its record still has its artifacts in {former}; "
            f"`atat {command} {shlex.quote(name)} --out {shlex.quote(str(folder))}` corrects that"
        )
