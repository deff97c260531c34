"""The record in MLflow: ``analysis`` reads back what was written, each unit once."""

import io
import re
import shlex
import shutil
import socket
import sqlite3
import time
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from analysis import schema
from analysis.record import reader as runs
from analysis.record.errors import Unreachable
from trials.allocation import draw, sha256, to_csv
from trials.campaign.campaign import Campaign
from trials.campaign.layout import local_uri
from trials.tracking.record import MlflowRecord

UNIT_TAGS = {
    "status": schema.FINISHED,
    "reason": "",
    "start_order": "3",
    "node": "here",
    "device": "cpu",
    "processor": "a processor",
    "instruction_set": "AVX2",
    "threads": "1",
    "torch": "2",
    "gpu": "none",
    "times_lost": "0",
    "failed_before": "",
    "git_commit": "abc",
    "data_sha256": "d" * 64,
    "evaluation_sha256": "e" * 64,
    "prior_sha256": "f" * 64,
}


@pytest.fixture(scope="module")
def database(tmp_path_factory, empty_database):
    """Create one database for the campaigns of this module."""
    folder = tmp_path_factory.mktemp("record")
    (folder / "mlflow.db").write_bytes(empty_database.read_bytes())
    return folder


@pytest.fixture
def registered(database, tiny_protocol):
    """Return a function that registers the small protocol under another name."""

    def register(name, *, nonce="7", again=False, **changes):
        protocol = tiny_protocol(name=name, **changes)
        table = draw(protocol, nonce)
        tags = {
            "protocol_sha256": protocol.sha256(),
            "nonce_sha256": sha256(nonce),
            "allocation_sha256": sha256(to_csv(table)),
            schema.VERSIONS: MlflowRecord.text({"python": "3"}),
        }
        record = MlflowRecord(local_uri(database), name)
        record.register(protocol, table, tags, again=again)
        return record, table

    return register


@pytest.fixture
def outcome(allocated, finish):
    """Return the outcome of a finished unit of the small protocol."""
    campaign = allocated()
    return finish(campaign, campaign.table[0])


def tags_of(row, **changes):
    return {"unit_id": row.unit_id, "block": row.stratum, "arm": row.arm, **UNIT_TAGS, **changes}


def loaded(record):
    return runs.load_record(record.uri, record.name)


def all_runs(record, view="ALL"):
    from mlflow.entities import ViewType

    return record.store.client.search_runs(
        [record.experiment_id], run_view_type=getattr(ViewType, view)
    )


def test_a_campaign_is_registered_once(registered):
    record, _ = registered("once")
    again, table = registered("once")
    assert again.parent_id == record.parent_id
    assert len(all_runs(record)) == 1
    found = loaded(record)
    assert set(found.units["status"]) == {schema.PENDING}
    assert [tuple(row) for row in found.allocation.to_numpy()] == [
        (row.unit_id, row.stratum, row.arm) for row in table
    ]


def test_a_record_that_replaces_a_lost_one_has_a_tag(registered, monkeypatch):
    """The tag needs an earlier registration of which nothing is left."""
    monkeypatch.setattr("trials.tracking.record.time.time", lambda: 1795564799.6)
    first, _ = registered("lost")
    assert loaded(first).tags[schema.REGISTERED_AGAIN] == ""
    registered("lost", again=True)  # as in every later run
    assert loaded(first).tags[schema.REGISTERED_AGAIN] == ""
    first.store.client.delete_run(first.parent_id)
    second, _ = registered("lost", again=True)
    assert second.parent_id != first.parent_id
    assert loaded(second).tags[schema.REGISTERED_AGAIN] == "1795564799"


def test_the_recorded_protocol_has_the_recorded_hash(registered, tiny_protocol):
    record, _ = registered("hashed")
    found = loaded(record)
    protocol = tiny_protocol(name="hashed")
    assert found.protocol == protocol.canonical()
    assert found.tags["protocol_sha256"] == protocol.sha256()


def test_an_interrupted_registration_is_repeated(registered, monkeypatch):
    from mlflow import MlflowClient

    def cut(*words):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "set_tag", cut)
        with pytest.raises(KeyboardInterrupt):
            registered("cut")
    record, table = registered("cut")
    assert len(loaded(record).units) == len(table)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"alpha": 0.01}, "protocol_sha256"),
        ({"nonce": "8"}, "nonce_sha256"),
    ],
)
def test_another_protocol_or_nonce_under_the_same_name_is_refused(registered, changes, name):
    registered(f"mine-{name}")
    with pytest.raises(ValueError, match=f"another {name} .*give this one another name"):
        registered(f"mine-{name}", **changes)


def test_a_record_of_another_version_is_refused_in_one_line(registered):
    record, _ = registered("old")
    record.store.client.set_tag(record.parent_id, schema.RECORD_VERSION_TAG, "0")
    with pytest.raises(ValueError, match="has version 0, this program reads version") as caught:
        registered("old")
    assert len(str(caught.value).splitlines()) == 1


def test_a_written_unit_is_read_back_completely(registered, outcome):
    record, table = registered("whole")
    picture = np.arange(48, dtype=np.uint8).reshape(4, 12)
    record.write_unit(tags_of(table[0]), outcome, {"standard": picture})
    found = loaded(record)
    row = found.units.iloc[0]
    for name, value in tags_of(table[0], start_order=3).items():
        assert row[name] == value, name
    expected = {
        schema.CLEAN_ACC: outcome["clean_acc"],
        schema.TRAIN_ACC: outcome["train_acc"],
        schema.DIVERGED: 0.0,
        **outcome["inversions"],
        "robust_acc/0.01": outcome["robust_acc"]["0.01"],
        "seconds/train": outcome["seconds"]["train"],
        "seconds/score": outcome["seconds"]["score"],
    }
    numbers = row.drop([*tags_of(table[0])])
    assert numbers.to_dict() == expected
    assert found.classes[list(schema.CLASS_COLUMNS)].to_dict("records") == outcome["classes"]
    read = np.array(Image.open(io.BytesIO(found.picture(table[0].unit_id, "standard"))))
    assert np.array_equal(read, picture)


def test_bounds_are_read_back_by_noise_scale(registered, outcome):
    record, table = registered("bounds")
    bounds = {"infinite_share": 1.0, "eta/0.5": 12.5, "eta/1": 6.25}
    record.write_unit(tags_of(table[0]), outcome | {"bounds": bounds}, {})
    row = loaded(record).units.iloc[0]
    assert {name: row[schema.BOUNDS_PREFIX + name] for name in bounds} == bounds


def test_curves_are_recorded_by_epoch(registered, outcome):
    record, table = registered("curves")
    record.write_unit(tags_of(table[0]), outcome, {})
    run = next(run for run in all_runs(record) if "unit_id" in run.data.tags)
    history = record.store.client.get_metric_history(run.info.run_id, "epoch/loss")
    assert [(point.step, point.value) for point in history] == [
        (epoch, row["loss"]) for epoch, row in enumerate(outcome["curves"])
    ]


def test_a_colour_picture_is_read_back(registered, outcome):
    record, table = registered("colour")
    picture = np.arange(144, dtype=np.uint8).reshape(4, 12, 3)
    record.write_unit(tags_of(table[0]), outcome, {"standard": picture})
    read = np.array(Image.open(io.BytesIO(loaded(record).picture(table[0].unit_id, "standard"))))
    assert np.array_equal(read, picture)


def test_a_unit_whose_loss_diverged_is_recorded_as_such(registered, outcome):
    record, table = registered("diverged")
    curves = [{"loss": 1.0}, {"loss": float("nan")}]
    record.write_unit(tags_of(table[0]), outcome | {"diverged": True, "curves": curves}, {})
    assert loaded(record).units[schema.DIVERGED][0] == 1


def test_a_unit_is_written_once(registered, outcome):
    record, table = registered("twice")
    for _ in range(2):
        record.write_unit(tags_of(table[0]), outcome, {})
    assert len(all_runs(record)) == 2  # with the parent


def test_an_incomplete_run_of_a_unit_is_replaced(registered, outcome):
    record, table = registered("half")
    half = record.store.client.create_run(
        record.experiment_id,
        tags={
            "mlflow.parentRunId": record.parent_id,
            schema.KIND_TAG: schema.KIND_UNIT,
            **tags_of(table[0]),
        },
    )
    record.store.client.log_metric(half.info.run_id, schema.CLEAN_ACC, -1.0)
    assert record.units() == {}
    assert loaded(record).units["status"][0] == schema.PENDING
    record.write_unit(tags_of(table[0]), outcome, {})
    assert loaded(record).units[schema.CLEAN_ACC][0] == outcome["clean_acc"]
    assert list(record.units()) == [table[0].unit_id]
    assert half.info.run_id not in [run.info.run_id for run in all_runs(record, "ACTIVE_ONLY")]


def test_an_incomplete_run_that_appears_later_is_removed(registered, outcome):
    record, table = registered("late")
    record.write_unit(tags_of(table[0]), outcome, {})
    tags = {"mlflow.parentRunId": record.parent_id, **tags_of(table[0])}
    late = record.store.client.create_run(record.experiment_id, tags=tags)
    record.write_unit(tags_of(table[0]), outcome, {})
    found = [run.info.run_id for run in all_runs(record, "ACTIVE_ONLY")]
    assert late.info.run_id not in found
    assert len(found) == 2  # with the parent


def test_a_failed_unit_is_recorded_with_its_reason_until_it_finishes(registered, outcome):
    record, table = registered("failing")
    failed = tags_of(table[0], status=schema.FAILED, reason="ValueError: no")
    record.write_unit(failed, None, {})
    units = loaded(record).units
    assert (units["status"][0], units["reason"][0]) == (schema.FAILED, "ValueError: no")
    record.write_unit(tags_of(table[0]), outcome, {})
    units = loaded(record).units
    assert (units["status"][0], units["reason"][0]) == (schema.FINISHED, "")


def test_a_unit_that_failed_again_is_recorded_with_both_failures(registered):
    record, table = registered("failing-twice")
    record.write_unit(tags_of(table[0], status=schema.FAILED, reason="first"), None, {})
    again = tags_of(table[0], status=schema.FAILED, reason="second", failed_before="first")
    for _ in range(2):
        record.write_unit(again, None, {})
    units = loaded(record).units
    assert (units["reason"][0], units["failed_before"][0]) == ("second", "first")
    assert len(all_runs(record, "ACTIVE_ONLY")) == 2  # with the parent


def test_units_whose_ids_share_a_prefix_are_distinguished(registered, outcome):
    record, table = registered("alike", units_per_arm=2)
    for row in table[:4]:
        record.write_unit(tags_of(row), outcome, {})
    assert set(record.units()) == {row.unit_id for row in table[:4]}


def test_assets_are_read_back(registered):
    record, _ = registered("assets")
    assets = [{"block": "split-0", "asset": "evaluation models", "accuracy": 0.5}]
    for _ in range(2):
        record.write_assets(assets)
    assert loaded(record).assets == assets


def test_the_nonce_is_revealed_only_at_the_end(registered):
    record, _ = registered("secret", nonce="a" * 64)
    record.close(nonce=None)
    assert loaded(record).tags["nonce"] == ""
    assert "a" * 64 not in str(record.store.client.get_run(record.parent_id).to_dictionary())
    record.close(nonce="a" * 64)
    assert loaded(record).tags["nonce"] == "a" * 64
    assert sha256("a" * 64) == loaded(record).tags["nonce_sha256"]


@pytest.fixture
def local(tmp_path, tiny_protocol, empty_database):
    """Return a function that registers the small protocol in the database of a folder."""

    def register(folder, name="tiny"):
        folder.mkdir(exist_ok=True)
        if not (folder / "mlflow.db").exists():
            shutil.copy(empty_database, folder / "mlflow.db")
        protocol = tiny_protocol(name=name)
        table = draw(protocol, "7")
        tags = {
            "protocol_sha256": protocol.sha256(),
            "allocation_sha256": sha256(to_csv(table)),
        }
        record = MlflowRecord(local_uri(folder), name)
        record.register(protocol, table, tags)
        return record, table

    return register


def places(record):
    """Return every artifact path in the record."""
    runs = {run.info.artifact_uri for run in all_runs(record)}
    return {record.store.client.get_experiment(record.experiment_id).artifact_location, *runs}


@pytest.mark.parametrize("name", ["new", "run #1", "50%"])
def test_a_campaign_continues_in_a_moved_folder(local, tmp_path, outcome, name):
    record, table = local(tmp_path / "two words")
    picture = np.arange(48, dtype=np.uint8).reshape(4, 12)
    record.write_unit(tags_of(table[0]), outcome, {"standard": picture})
    folder = (tmp_path / "two words").rename(tmp_path / name)
    command = f"`atat verify tiny --out {shlex.quote(str(folder))}` corrects that"
    with pytest.raises(ValueError, match=re.escape(command)):
        runs.load_record(local_uri(folder), "tiny")
    again, _ = local(folder)
    assert again.parent_id == record.parent_id
    again.write_unit(tags_of(table[1]), outcome, {})
    assert all(place.startswith((folder / "artifacts").as_uri()) for place in places(again))
    found = loaded(again)
    assert len(found.classes) == 2 * len(outcome["classes"])
    read = np.array(Image.open(io.BytesIO(found.picture(table[0].unit_id, "standard"))))
    assert np.array_equal(read, picture)
    assert not (tmp_path / "two words").exists()


def test_names_of_classes_are_read_as_they_were_written(local, tmp_path, outcome):
    names = ["007", "NA", "", "1.50", 'a, "b"', "Zo\u00eb"]
    rows = [{**row, "class": name} for row, name in zip(outcome["classes"], names, strict=False)]
    record, table = local(tmp_path / "odd")
    record.write_unit(tags_of(table[0]), {**outcome, "classes": rows}, {})
    found = loaded(record).classes
    assert found["class"].tolist() == [row["class"] for row in rows]
    assert found["n"].tolist() == [row["n"] for row in rows]


def test_a_copied_campaign_has_its_own_artifacts(local, tmp_path, outcome):
    first, table = local(tmp_path / "first")
    other, _ = local(tmp_path / "first", "other")
    before = places(first), places(other)
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    second = MlflowRecord(local_uri(tmp_path / "second"), "tiny")
    assert second.attach()
    second.write_unit(tags_of(table[0]), outcome, {})
    assert all(
        place.startswith((tmp_path / "second" / "artifacts").as_uri()) for place in places(second)
    )
    assert len(loaded(second).classes) == len(outcome["classes"])
    assert loaded(first).classes.empty
    assert (places(first), places(other)) == before
    other = MlflowRecord(local_uri(tmp_path / "second"), "other")
    other.experiment_id = first.store.client.get_experiment_by_name("other").experiment_id
    assert places(other) == before[1]  # the paths of a campaign are corrected when it is opened


def test_a_folder_behind_a_symbolic_link_was_not_moved(local, tmp_path):
    record, _ = local(tmp_path / "folder")
    before = places(record)
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    again, _ = local(tmp_path / "link")
    assert places(again) == before
    assert loaded(again).tags["protocol_sha256"]


def test_missing_artifacts_of_a_moved_record_are_written_again(local, tmp_path):
    local(tmp_path / "old")
    folder = (tmp_path / "old").rename(tmp_path / "new")
    shutil.rmtree(folder / "artifacts")
    record, _ = local(folder)
    assert all(place.startswith((folder / "artifacts").as_uri()) for place in places(record))
    assert loaded(record).tags["protocol_sha256"]
    shutil.rmtree(folder / "artifacts")
    with pytest.raises(ValueError, match=f"no {folder}/artifacts/.*`atat resume tiny .*again"):
        loaded(record)


def test_a_moved_record_that_cannot_be_written_is_refused(local, tmp_path):
    record, _ = local(tmp_path / "old")
    before = places(record)
    folder = (tmp_path / "old").rename(tmp_path / "new")
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        refuse = "CREATE TRIGGER refuse BEFORE UPDATE ON runs BEGIN DELETE FROM nowhere; END"
        connection.execute(refuse)
    moved = MlflowRecord(local_uri(folder), "tiny")
    refusal = "cannot be corrected .no such table.*; make .* writable$"
    with pytest.raises(ValueError, match=refusal):
        moved.attach()
    assert places(moved) == before  # either all paths are corrected or none


@pytest.mark.parametrize("name", ["two words", "run #1", "50%", "ünïcode"])
def test_a_folder_of_any_name_holds_a_campaign(tiny_protocol, tmp_path, empty_database, name):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(empty_database.read_bytes())
    protocol = tiny_protocol()
    table = draw(protocol, "7")
    tags = {
        "protocol_sha256": protocol.sha256(),
        "allocation_sha256": sha256(to_csv(table)),
    }
    parents = []
    for _ in range(2):
        record = MlflowRecord(local_uri(folder), "tiny")
        record.register(protocol, table, tags)
        parents.append(record.parent_id)
    assert parents[0] == parents[1]
    assert len(loaded(record).units) == len(table)
    assert sorted(path.name for path in folder.iterdir()) == ["artifacts", "mlflow.db"]
    assert list(tmp_path.iterdir()) == [folder]


def test_attaching_does_not_create_a_missing_database(tmp_path):
    assert not MlflowRecord(local_uri(tmp_path), "tiny").attach()
    assert not (tmp_path / "mlflow.db").exists()


def test_a_file_that_is_not_a_database_is_refused_in_one_line(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(100 * b"no database")
    with pytest.raises(ValueError, match=r"mlflow\.db|database") as caught:
        MlflowRecord(local_uri(tmp_path), "tiny").attach()
    assert len(str(caught.value).splitlines()) == 1


def test_the_address_of_the_record_does_not_depend_on_the_working_directory(
    tiny_protocol, tmp_path, monkeypatch
):
    campaign = Campaign.create_or_resume(
        tiny_protocol(), tmp_path / "campaign", "sqlite:///mlflow.db"
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert Campaign.load(campaign.folder).tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
    with pytest.raises(ValueError, match=f"{tmp_path}/mlflow.db, got .*/elsewhere/mlflow.db"):
        Campaign.create_or_resume(tiny_protocol(), campaign.folder, "sqlite:///mlflow.db")


def test_an_explicit_address_of_the_database_in_the_folder_moves_with_it(tiny_protocol, tmp_path):
    campaign = Campaign.create_or_resume(
        tiny_protocol(), tmp_path / "old", "sqlite:///old/mlflow.db"
    )
    moved = campaign.folder.rename(tmp_path / "new")
    assert Campaign.load(moved).tracking_uri == local_uri(moved)


@pytest.fixture
def dead():
    """Return an address without a server."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def test_a_server_that_does_not_answer_is_refused_within_seconds(dead):
    start = time.monotonic()
    with pytest.raises(Unreachable, match=f"{dead} does not answer.*start it, correct") as caught:
        MlflowRecord(dead, "tiny")
    assert time.monotonic() - start < 10
    assert len(str(caught.value).splitlines()) == 1


def test_a_sqlite_address_with_options_is_found_again(tmp_path, tiny_protocol, empty_database):
    (tmp_path / "options.db").write_bytes(empty_database.read_bytes())
    uri = f"sqlite:///{tmp_path}/options.db?timeout=20"
    protocol = tiny_protocol(name="options")
    tags = {"protocol_sha256": protocol.sha256()}
    first, second = MlflowRecord(uri, "options"), MlflowRecord(uri, "options")
    for record in (first, second):
        record.register(protocol, draw(protocol, "7"), tags)
    assert first.parent_id == second.parent_id
