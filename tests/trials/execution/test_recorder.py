"""A damaged or incomplete record in the folder is written again from the units' folders."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from analysis import schema
from analysis.record import load_record
from trials.campaign import verify as verifying
from trials.campaign.campaign import Campaign
from trials.campaign.notes import write_note
from trials.campaign.verify import verify
from trials.execution import recorder as recorders
from trials.execution.recorder import Recorder
from trials.tracking.relocate import set_aside


@pytest.fixture(autouse=True)
def quick(monkeypatch, empty_database):
    """Give up at once at the end of a run, and copy new databases, which take seconds to make."""

    def put_aside(database):
        kept = set_aside(database)
        shutil.copy(empty_database, database)
        return kept

    monkeypatch.setattr(recorders, "CLOSE_PATIENCE", 0.0)
    monkeypatch.setattr(recorders, "set_aside", put_aside)


def record_all(campaign, said=None):
    recorder = Recorder(campaign, print if said is None else said.append)
    recorder.open_or_postpone()
    recorder.assets = [{"block": "split-0"}]
    recorder.catch_up()
    recorder.close()


def table(campaign):
    record = load_record(campaign.tracking_uri, "tiny")
    names = campaign.settings.inversions
    pictures = [record.picture(row.unit_id, name) for row in campaign.table for name in names]
    units = record.units.drop(columns="git_commit")  # somebody may edit the source tree meanwhile
    return units.to_csv(), record.classes.to_csv(), record.assets, pictures


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero(path):
    content = path.read_bytes()
    path.write_bytes(content[:40960] + bytes(40960) + content[81920:])


def overwrite(path):
    path.write_bytes(b"no database" * 900)


def drop_a_table(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE runs")


@pytest.fixture
def copy_of(tmp_path):
    """Return a function that copies a campaign, so that MLflow has not opened the database yet."""

    def copy(campaign):
        return Campaign.load(shutil.copytree(campaign.folder, tmp_path / "copy"))

    return copy


@pytest.mark.parametrize("damage", [cut, zero, overwrite, drop_a_table])
def test_a_damaged_database_is_kept_and_the_record_is_written_again(
    recorded_once, recorded, damage
):
    before, said = table(Campaign.load(recorded_once)), []
    database = recorded.folder / "mlflow.db"
    (recorded.folder / "mlflow.damaged-1.db").touch()
    damage(database)
    damaged = database.read_bytes()
    record_all(recorded, said)
    kept = recorded.folder / "mlflow.damaged-2.db"
    assert kept.read_bytes() == damaged
    assert [line for line in said if f"was damaged; it is kept as {kept}" in line]
    assert table(recorded) == before
    assert not [check for check in verify(recorded) if check.problems]
    assert load_record(recorded.tracking_uri, "tiny").tags[schema.REGISTERED_AGAIN]


def test_a_run_goes_on_while_its_database_is_damaged(allocated, finish, copy_of):
    campaign, said = allocated(), []
    first, *others = campaign.table
    recorder = Recorder(campaign, said.append)
    recorder.open_or_postpone()
    finish(campaign, first)
    recorder.write([first])
    recorder.record = None  # as after an outage
    overwrite(campaign.folder / "mlflow.db")
    for row in others:
        finish(campaign, row)
        recorder.write([row])
    recorder.close()
    assert len(recorder.unrecorded) == len(others)
    assert "the run goes on" in said[0]
    again = copy_of(campaign)
    record_all(again)
    assert set(load_record(again.tracking_uri, "tiny").units["status"]) == {schema.FINISHED}


def test_a_damaged_database_outside_the_folder_is_left_alone(tiny_protocol, tmp_path):
    """It may hold the records of others."""
    shared = tmp_path / "shared.db"
    overwrite(shared)
    before = shared.read_bytes()
    campaign = Campaign.create_or_resume(tiny_protocol(), tmp_path / "new", f"sqlite:///{shared}")
    with pytest.raises(ValueError, match="is not an MLflow database, or is damaged.*restore"):
        record_all(campaign)
    assert shared.read_bytes() == before


def everything(folder):
    shutil.rmtree(folder)


def of_the_campaign(folder):
    for name in (schema.PROTOCOL_FILE, schema.ALLOCATION_FILE, schema.ASSETS_FILE):
        (path,) = folder.rglob(name)
        path.unlink()


def one_class_table(folder):
    next(folder.rglob(schema.CLASSES_FILE)).unlink()


def one_picture(folder):
    next(folder.rglob("*.png")).unlink()


@pytest.mark.parametrize("delete", [everything, of_the_campaign, one_class_table, one_picture])
def test_artifacts_that_were_deleted_are_written_again(recorded, delete):
    before, said = table(recorded), []
    runs = Recorder(recorded, print).connect().units().keys()
    delete(recorded.folder / "artifacts")
    with pytest.raises(ValueError, match="`atat resume.* again"):
        table(recorded)
    record_all(recorded, said)
    assert table(recorded) == before
    assert Recorder(recorded, print).connect().units().keys() == runs
    assert not [check for check in verify(recorded) if check.problems]


def other_metric(client, run_id, folder):
    client.log_metric(run_id, "clean_acc", 0.123, step=9)


def other_arm(client, run_id, folder):
    client.set_tag(run_id, "arm", "elsewhere")


def no_status(client, run_id, folder):
    client.delete_tag(run_id, "status")


def other_picture(client, run_id, folder):
    path = next((folder / "artifacts" / run_id).rglob("*.png"))
    path.write_bytes(path.read_bytes()[:-30])


def other_classes(client, run_id, folder):
    path = next((folder / "artifacts" / run_id).rglob(schema.CLASSES_FILE))
    path.write_bytes(b"\xff" + path.read_bytes()[1:])


@pytest.mark.parametrize(
    "alter", [other_metric, other_arm, no_status, other_picture, other_classes]
)
def test_a_unit_that_was_altered_in_the_record_is_written_again(recorded, alter):
    before, said = table(recorded), []
    record = Recorder(recorded, print).connect()
    run = record.units()[recorded.table[1].unit_id]
    alter(record.store.client, run.info.run_id, recorded.folder)
    assert [check for check in verify(recorded) if check.problems]
    record_all(recorded, said)
    assert table(recorded) == before
    assert not [check for check in verify(recorded) if check.problems]
    assert [line for line in said if line.startswith("a unit was altered in the record")]


@pytest.mark.parametrize("alter", [cut, Path.unlink])
def test_an_altered_list_of_assets_in_the_record_is_named(recorded, monkeypatch, alter):
    monkeypatch.setattr(verifying, "read_all_assets", lambda campaign: [{"block": "split-0"}])
    assert not [check for check in verify(recorded) if check.problems]
    (path,) = (recorded.folder / "artifacts").rglob(schema.ASSETS_FILE)
    alter(path)
    (lines,) = [check.problems for check in verify(recorded) if check.problems]
    assert lines == ["assets.json in the record is missing or has another content"]


def test_tags_of_notes_that_were_deleted_stay_in_the_record(allocated, finish):
    campaign = allocated()
    row = campaign.table[0]
    folder = campaign.unit_folder(row.unit_id)
    write_note(folder, "start", {"order": 3, "time": 0.0})
    write_note(folder, "place", {"node": "n", "device": "cpu"})
    write_note(folder, "lost", {"reasons": ["killed"]})
    finish(campaign, row)
    record_all(campaign)
    for name in ("start", "place", "lost"):
        (folder / f"{name}.json").unlink()
    record_all(campaign)
    tags = Recorder(campaign, print).connect().units()[row.unit_id].data.tags
    names = ("start_order", "node", "device", "times_lost")
    assert [tags[name] for name in names] == ["3", "n", "cpu", "1"]


def test_a_complete_record_is_not_written_again(recorded):
    said = []
    files = {p: p.stat().st_mtime_ns for p in (recorded.folder / "artifacts").rglob("*.csv")}
    record_all(recorded, said)
    assert said == []
    assert all(path.stat().st_mtime_ns == time for path, time in files.items())
