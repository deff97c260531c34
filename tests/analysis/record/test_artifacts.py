"""Places of artifacts that a record names: they are followed only where the user sent us."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from listener import Listener, listening

from analysis.record import load_record
from analysis.record.address import Address
from analysis.record.artifacts import checked_place, local_file
from analysis.report import conclude

Campaign = tuple[str, str]


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """Start a server that nobody named, while a token for another one is in the environment."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a-secret-token")
    with listening() as found:
        yield found


@pytest.fixture
def copied(finished: Campaign, tmp_path: Path) -> Path:
    """Copy the database of a finished campaign with its artifacts, whose paths are corrected."""
    source = Path(finished[0].removeprefix("sqlite:///")).parent
    folder = tmp_path / "campaign"
    shutil.copytree(source, folder)
    update(folder, "UPDATE runs SET artifact_uri = replace(artifact_uri, ?, ?)", source, folder)
    return folder


def update(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        connection.execute(statement, [str(value) for value in values])


OF_PARENTS = (
    "UPDATE runs SET artifact_uri = ? WHERE name LIKE 'campaign%' OR run_uuid NOT IN "
    "(SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId')"
)
OF_UNITS = (
    "UPDATE runs SET artifact_uri = ? WHERE run_uuid IN "
    "(SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId')"
)


@pytest.mark.parametrize("which", [OF_PARENTS, OF_UNITS], ids=["campaign", "units"])
@pytest.mark.parametrize("scheme", ["http", "mlflow-artifacts"])
def test_a_record_in_a_folder_sends_nothing_to_an_address_that_it_names(
    copied: Path, finished: Campaign, stranger: Listener, which: str, scheme: str, tmp_path: Path
) -> None:
    uri = f"sqlite:///{copied}/mlflow.db"
    load_record(uri, finished[1])
    update(copied, which, f"{stranger.uri.replace('http', scheme)}/artifacts/x/y")
    with pytest.raises(ValueError, match="campaign|outside its folder"):
        conclude(uri, finished[1], tmp_path / "report")
    assert stranger.requests == []


@pytest.mark.parametrize("which", [OF_PARENTS, OF_UNITS], ids=["campaign", "units"])
def test_a_report_is_neither_read_nor_written_outside_the_folder_of_its_record(
    copied: Path, finished: Campaign, which: str, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    update(copied, which, elsewhere.as_uri())
    with pytest.raises(ValueError, match="moved or copied|outside its folder"):
        conclude(f"sqlite:///{copied}/mlflow.db", finished[1], tmp_path / "report")
    assert list(elsewhere.iterdir()) == []


def test_artifacts_behind_a_link_out_of_the_folder_are_refused(
    copied: Path, finished: Campaign, tmp_path: Path
) -> None:
    (copied / "artifacts").rename(tmp_path / "elsewhere")
    (copied / "artifacts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="moved or copied"):
        load_record(f"sqlite:///{copied}/mlflow.db", finished[1])


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("http://host:5000", "mlflow-artifacts:/1/a/artifacts"),
        ("http://ann:pw@host:5000", "mlflow-artifacts://host:5000/1/a"),
        ("http://host:5000", "http://host:5000/api/2.0/mlflow-artifacts/artifacts/1"),
        ("http://host:5000", "s3://bucket/1/a/artifacts"),
        ("http://host:5000", "/srv/mlruns/1/a/artifacts"),
        ("postgresql://host/mlflow", "gs://bucket/1"),
        ("sqlite:////srv/c/mlflow.db", "file:///srv/c/artifacts/a/artifacts"),
    ],
)
def test_places_at_the_given_address_are_taken(address: str, place: str) -> None:
    assert checked_place(Address(address), place) == place


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("http://host:5000", "http://elsewhere:5000/x"),
        ("http://host:5000", "http://host:5001/x"),
        ("http://host:5000", "http://host:5000@elsewhere/x"),
        ("http://host:5000", "http://elsewhere\\@host:5000/x"),
        ("http://host:5000", "mlflow-artifacts://elsewhere:5000/x"),
        ("http://host:5000", "ftp://ann:pw@elsewhere/x"),
        ("http://host:5000", "wasbs://c@elsewhere/x"),
        ("http://host:5000", "runs:/abc/x"),
        ("postgresql://host/mlflow", "http://host/x"),
        ("postgresql://host/mlflow", "mlflow-artifacts:/x"),
        ("sqlite:////srv/c/mlflow.db", "mlflow-artifacts:/x"),
        ("sqlite:////srv/c/mlflow.db", "s3://bucket/x"),
        ("sqlite:////srv/c/mlflow.db", "file:///srv/c/artifacts/../../other"),
        ("sqlite:////srv/c/mlflow.db", "file:///elsewhere"),
        ("sqlite:////srv/c/mlflow.db", ""),
    ],
)
def test_other_places_are_refused_in_one_line_without_secrets(address: str, place: str) -> None:
    with pytest.raises(ValueError, match="place of artifacts") as caught:
        checked_place(Address(address), place)
    assert len(str(caught.value).splitlines()) == 1
    assert "pw" not in str(caught.value)


def test_an_artifact_outside_its_place_is_refused(tmp_path: Path) -> None:
    place = (tmp_path / "artifacts").as_uri()
    assert local_file(place, "pictures/a.png") == tmp_path / "artifacts/pictures/a.png"
    with pytest.raises(ValueError, match="is outside"):
        local_file(place, "pictures/../../secret.png")
