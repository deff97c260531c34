"""Addresses of tracking stores: unusable ones are refused at once and nothing is created."""

from __future__ import annotations

import json
import pickle
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from analysis.record import Store
from analysis.record.address import Address, full_address
from analysis.record.connection import ANSWER_SECONDS, check_address
from analysis.record.errors import Unreachable, translate_mlflow_errors


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("sqlite:///mlflow.db", "sqlite:///{here}/mlflow.db"),
        ("sqlite+pysqlite:///a b/m.db?timeout=9", "sqlite+pysqlite:///{here}/a b/m.db?timeout=9"),
        ("sqlite:////srv/mlflow.db", "sqlite:////srv/mlflow.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite://", "sqlite://"),
        ("http://server:5000/mlflow", "http://server:5000/mlflow"),
        ("postgresql:///mlflow", "postgresql:///mlflow"),
    ],
)
def test_the_path_of_a_sqlite_address_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, full: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert full_address(given) == full.format(here=tmp_path)


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+pysqlite"])
def test_a_missing_sqlite_file_is_refused_for_reading_and_never_created(
    tmp_path: Path, scheme: str
) -> None:
    uri = f"{scheme}:///{tmp_path}/absent.db"
    with pytest.raises(ValueError, match="no such file"):
        check_address(uri, must_exist=True)
    check_address(uri, must_exist=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to be looked at" * 9])
def test_a_file_that_is_no_mlflow_database_is_refused_and_left_alone(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "other.db"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not an MLflow database"):
        check_address(f"sqlite:///{path}", must_exist=True)
    assert path.read_bytes() == content


@pytest.mark.parametrize("uri", ["", "foo://bar", "mlruns", "file:///tmp", "databricks://x"])
@pytest.mark.parametrize("must_exist", [True, False])
def test_an_address_of_no_known_kind_is_refused_and_nothing_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, must_exist: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"'{uri}' is of no known kind; use http://HOST:PORT or"):
        check_address(uri, must_exist=must_exist)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("uri", ["http://127.0.0.1:99999", "http://127.0.0.1:port", "http://[::1"])
def test_a_malformed_address_is_refused_in_one_line_that_names_it(uri: str) -> None:
    with pytest.raises(ValueError, match="MLflow") as caught:
        check_address(uri, must_exist=False)
    assert uri in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_database_without_its_driver_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

    def missing(dialect: type) -> None:
        raise ModuleNotFoundError("No module named 'psycopg2'", name="psycopg2")

    monkeypatch.setattr(PGDialect_psycopg2, "import_dbapi", classmethod(missing))
    with pytest.raises(ValueError, match="needs the Python package 'psycopg2'; install it"):
        check_address("postgresql+psycopg2://user@host/mlflow", must_exist=False)
    with pytest.raises(ValueError, match="postgresql.nothing"):
        check_address("postgresql+nothing://user@host/mlflow", must_exist=True)


@pytest.fixture
def silent() -> Iterator[str]:
    """Return the address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_silent_server_is_refused_within_the_timeout(silent: str) -> None:
    start = time.monotonic()
    with pytest.raises(Unreachable, match=r"does not answer \(nothing within 1 s\)"):
        check_address(silent, must_exist=False, timeout=1)
    assert 0.9 < time.monotonic() - start < 10
    assert ANSWER_SECONDS <= 20  # a campaign asks twice when it starts


def test_a_gateway_without_its_server_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = requests.Response()
    monkeypatch.setattr(requests, "get", lambda uri, **options: answer)
    answer.status_code = 502
    with pytest.raises(Unreachable, match=r"does not answer \(HTTP 502\)"):
        check_address("http://gateway", must_exist=True)
    answer.status_code = 401  # a server that asks for a password is there
    check_address("http://gateway", must_exist=True)


def test_errors_of_mlflow_its_transport_and_its_database_become_unreachable() -> None:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError

    class Client:
        uri = Address("http://server")

        @translate_mlflow_errors
        def fail(self, error: Exception) -> None:
            raise error

    errors: list[Any] = [
        MlflowException("of MLflow"),
        requests.ConnectionError("of transport"),
        OperationalError("of\nSQL", {}, Exception()),
    ]
    for error in errors:
        with pytest.raises(Unreachable, match="^http://server: ") as caught:
            Client().fail(error)
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(KeyError):
        Client().fail(KeyError("ours"))


@pytest.mark.parametrize(
    ("given", "shown", "secrets"),
    [
        ("postgresql://ann:pa/s?w@host/x", "postgresql://***@host/x", ["ann", "pa/s?w"]),
        ("mysql+pymysql://ann@host:3306/x", "mysql+pymysql://***@host:3306/x", ["ann"]),
        ("https://tok%20en@host/x/", "https://***@host/x", ["tok%20en", "tok en"]),
        ("http://ann:hidden@[::1]:5000", "http://***@[::1]:5000", ["ann", "hidden"]),
        ("postgresql:///x?user=anna&p=hid%23", "postgresql:///x?user=***&p=***", ["anna", "hid#"]),
        ("https://host/x?sign#hidden", "https://host/x?***", ["sign", "hidden"]),
        ("ann:hidden@host:5000", "***@host:5000", ["ann", "hidden"]),
        ("sqlite:////srv/a@b:c/#1.db?key=hidden", "sqlite:////srv/a@b:c/#1.db?key=***", ["hidden"]),
        ("http://server:5000", "http://server:5000", []),
    ],
)
def test_an_address_hides_its_secrets_wherever_it_is_shown_kept_or_logged(
    given: str, shown: str, secrets: list[str]
) -> None:
    address = Address(given)
    assert address == Address.kept(given) == Address.kept(address) == shown
    assert address.full == full_address(given)
    assert pickle.loads(pickle.dumps(address)).full == address.full
    message = f"{given} {address.full!r} {quote(given)} {', '.join(secrets[:-1])} end"
    shown_as = ["%s" % address, f"{address!r}", json.dumps([address]), address.hide(message)]  # noqa: UP031
    assert not [secret for secret in secrets if secret in " ".join(shown_as)]


def test_errors_of_libraries_show_no_secret_of_the_address() -> None:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.engine import make_url

    class Client:
        uri = Address("postgresql://ann:pa%2Fss@host/mlflow?sslpassword=hidden")

        @translate_mlflow_errors
        def fail(self, error: Exception) -> None:
            raise error

    full = Client.uri.full
    for text in (full, f"cannot reach {full}", "FATAL: pa/ss of ann", repr(make_url(full))):
        with pytest.raises(Unreachable) as caught:
            Client().fail(MlflowException(text))
        shown = str(caught.value)
        assert not [secret for secret in ("ann", "pa/ss", "pa%2Fss", "hidden") if secret in shown]


def test_an_address_that_stands_in_a_file_is_not_followed() -> None:
    kept = Address.kept("http://elsewhere:5000")
    with pytest.raises(ValueError, match="followed only if you give it: add --tracking-uri http:"):
        check_address(kept, must_exist=False)
    check = "kept at http://elsewhere:5000"
    with pytest.raises(ValueError, match=check):
        Store(kept)


@pytest.mark.parametrize(
    "uri", ["ftp://ann:hidden@host", "ann:hidden@host", "http://ann:hid/den@[x"]
)
def test_a_refused_address_is_shown_without_its_secrets(uri: str) -> None:
    with pytest.raises(ValueError, match="MLflow") as caught:
        check_address(uri, must_exist=False)
    assert not [secret for secret in ("ann", "hidden", "hid/den") if secret in str(caught.value)]
