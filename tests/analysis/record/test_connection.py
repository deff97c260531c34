"""Check of a tracking store: what may pass, what is damaged, and what is not MLflow's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from listener import Listener, listening

from analysis.record import Store, Unreachable, load_record
from analysis.record.connection import check_address
from analysis.record.errors import Damaged


@pytest.fixture
def server() -> Iterator[Listener]:
    """Start a server whose answers a test chooses."""
    with listening() as found:
        yield found


@pytest.fixture
def whole(finished: tuple[str, str]) -> bytes:
    """Return the bytes of the database of a finished campaign."""
    return Path(finished[0].removeprefix("sqlite:///")).read_bytes()


def test_a_server_that_answers_as_mlflow_does_is_taken(server: Listener) -> None:
    check_address(server.uri, must_exist=True)
    assert server.requests[0].startswith("GET /health ")


@pytest.mark.parametrize(
    ("status", "page", "headers", "said"),
    [
        (500, "Internal Server Error", {}, r"does not answer \(HTTP 500\); start it"),
        (200, "<html>Please sign in</html>", {}, "a page that is not MLflow's: a login page"),
        (302, "", {"Location": "https://login/?t=1"}, "sends its visitors to https://login/"),
    ],
    ids=["error", "login page", "redirect"],
)
@pytest.mark.parametrize("must_exist", [True, False])
def test_a_server_with_another_answer_is_one_line_with_a_remedy(
    server: Listener, status: int, page: str, headers: dict[str, str], said: str, must_exist: bool
) -> None:
    server.status, server.page, server.headers = status, page, headers
    with pytest.raises(Unreachable, match=said) as caught:
        check_address(server.uri, must_exist=must_exist)
    assert len(str(caught.value).splitlines()) == 1
    assert server.uri in str(caught.value)


def test_a_page_in_place_of_mlflows_answer_is_one_printable_line(server: Listener) -> None:
    store = Store(server.uri)
    server.page = "\x1b[31m<html>\nSign in</html>"
    with pytest.raises(Unreachable) as caught:
        store.experiment("any")
    assert str(caught.value).isprintable()


def test_a_refused_token_is_one_line_that_says_how_to_sign_in(server: Listener) -> None:
    store = Store(server.uri)
    server.status, server.page = 401, "no"
    with pytest.raises(Unreachable, match="refuses the request.*set MLFLOW_TRACKING_USERNAME"):
        store.experiment("any")


def test_a_locked_database_is_told_as_a_fault_that_passes(
    tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.record.connection.LOCK_SECONDS", 0.1)
    path = tmp_path / "mlflow.db"
    path.write_bytes(whole)
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unreachable, match=f"another process holds the database {path}.*wait"):
            check_address(f"sqlite:///{path}", must_exist=True)
    check_address(f"sqlite:///{path}", must_exist=True)


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def zeroed_page(content: bytes) -> bytes:
    return content[:40960] + bytes(4096) + content[45056:]


def zeroed_start(content: bytes) -> bytes:
    return bytes(4096) + content[4096:]


@pytest.mark.parametrize("damage", [half, zeroed_page, zeroed_start])
@pytest.mark.parametrize("must_exist", [True, False])
def test_a_damaged_database_is_told_as_a_fault_that_stays(
    tmp_path: Path, whole: bytes, damage: object, must_exist: bool
) -> None:
    path = tmp_path / "mlflow.db"
    content = damage(whole)  # type: ignore[operator]
    path.write_bytes(content)
    with pytest.raises(Damaged, match=f"{path}.* damaged .*`atat resume` rebuilds") as caught:
        check_address(f"sqlite:///{path}", must_exist=must_exist)
    assert len(str(caught.value).splitlines()) == 1
    assert path.read_bytes() == content


def test_what_a_killed_process_left_half_written_is_rolled_back(
    tmp_path: Path, whole: bytes
) -> None:
    """A hot journal makes a database unreadable for those who open it read-only."""
    path = tmp_path / "mlflow.db"
    path.write_bytes(whole)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("UPDATE tags SET value = 'x'")
        copies = {name: Path(f"{path}{name}").read_bytes() for name in ("", "-journal")}
        connection.rollback()
    for name, content in copies.items():
        Path(f"{path}{name}").write_bytes(content)
    check_address(f"sqlite:///{path}", must_exist=True)
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT count(*) FROM tags WHERE value = 'x'"
        assert connection.execute(query).fetchone() == (0,)


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    before = path.read_bytes()
    for must_exist in (True, False):
        with pytest.raises(ValueError, match="is not an MLflow database"):
            check_address(f"sqlite:///{path}", must_exist=must_exist)
    assert path.read_bytes() == before


def test_a_database_of_another_version_of_mlflow_is_one_line_with_both_ways(
    tmp_path: Path, finished: tuple[str, str]
) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(Path(finished[0].removeprefix("sqlite:///")).read_bytes())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'fedcba987654'")
    with pytest.raises(ValueError, match="another version of MLflow.*db upgrade.*newer") as caught:
        load_record(f"sqlite:///{path}", finished[1])
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "mysql+pymysql", "mssql+pyodbc"])
def test_a_database_whose_driver_is_missing_is_one_line_that_names_the_package(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import builtins

    load = builtins.__import__

    def refuse(name: str, *words: object) -> object:
        if name in ("psycopg2", "MySQLdb", "pymysql", "pyodbc"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return load(name, *words)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ValueError, match="needs the Python package '.*'; install it") as caught:
        Store(f"{scheme}://ann:secret@host/mlflow")
    assert "secret" not in str(caught.value)


def test_a_database_whose_creation_is_interrupted_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.db import utils

    def fill_the_disk(engine: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with monkeypatch.context() as patch:
        patch.setattr(utils, "_upgrade_db", fill_the_disk)
        with pytest.raises(Unreachable, match="disk is full"):
            Store(uri, must_exist=False).experiment("mine")
    assert list(tmp_path.iterdir()) == []
    assert Store(uri, must_exist=False).experiment("mine") is None
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
    assert Store(uri).names() == []  # it is whole
