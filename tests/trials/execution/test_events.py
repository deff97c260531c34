"""What the driver does with units as they start, end and get lost, without Ray."""

import io
import json
import time

import pytest

from analysis import schema
from analysis.record import reader as runs
from atat_ray.utils.atomic_files import write_whole
from trials.campaign.folder import write_note
from trials.execution import events as writer_module
from trials.execution.events import Writer
from trials.execution.progress import Lines
from trials.tracking.connection import Unreachable
from trials.tracking.record import Record


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(writer_module, "PATIENCE", 0.0)
    monkeypatch.setattr(writer_module, "PAUSE", 0.0)


@pytest.fixture
def start():
    """Return a function that makes a writer whose words are kept."""

    def make(campaign):
        said = io.StringIO()
        return Writer(campaign, Lines(said)), said

    return make


def run_all(writer, campaign, finish):
    for row in campaign.pending():
        writer.started(row.unit_id)
        finish(campaign, row)
        writer.ended(row.unit_id)


def test_a_campaign_is_recorded_whole(enrolled, finish, start):
    campaign = enrolled(units_per_arm=2)
    writer, said = start(campaign)
    writer.open()
    writer.write_assets([{"block": "split-0"}])
    run_all(writer, campaign, finish)
    summary = writer.close()
    assert (summary.finished, summary.total, summary.owed) == (8, 8, 0)
    found = runs.load_record(campaign.tracking_uri, "tiny")
    assert set(found.units["status"]) == {schema.FINISHED}
    assert list(found.units["start_order"]) == list(range(1, 9))
    assert found.assets == [{"block": "split-0"}]
    assert {name: found.tags[name] for name in campaign.hashes()} == campaign.hashes()
    assert found.tags["nonce"] == "7"
    assert said.getvalue().splitlines()[-1] == "[8/8] split-1-04 finished"
    for row in campaign.table:
        assert campaign.outcome(row)["clean_acc"] in set(found.units[schema.CLEAN_ACC])


def test_what_is_said_has_no_outcome_in_it(enrolled, finish, start):
    campaign = enrolled()
    writer, said = start(campaign)
    writer.open()
    run_all(writer, campaign, finish)
    writer.close()
    assert "acc" not in said.getvalue()
    for row in campaign.table:
        assert f"{campaign.outcome(row)['clean_acc']:.2f}" not in said.getvalue()
        assert row.arm not in said.getvalue()


def test_the_order_of_starts_goes_on_where_an_earlier_run_ended(enrolled, finish, start):
    campaign = enrolled()
    first, second, *_ = campaign.table
    writer, _ = start(campaign)
    writer.started(second.unit_id)
    again, _ = start(campaign)
    again.started(first.unit_id)
    again.started(second.unit_id)  # it was cut off, and keeps its place
    assert campaign.note(second.unit_id, "start")["order"] == 1
    assert campaign.note(first.unit_id, "start")["order"] == 2


def test_the_nonce_stays_secret_while_a_unit_is_pending(enrolled, finish, start):
    campaign = enrolled(nonce="secret")
    writer, _ = start(campaign)
    writer.open()
    for row in campaign.table[1:]:
        finish(campaign, row)
        writer.ended(row.unit_id)
    writer.close()
    assert runs.load_record(campaign.tracking_uri, "tiny").tags["nonce"] == ""
    writer, _ = start(campaign)
    writer.open()
    finish(campaign, campaign.table[0])
    writer.ended(campaign.table[0].unit_id)
    writer.close()
    assert runs.load_record(campaign.tracking_uri, "tiny").tags["nonce"] == campaign.nonce


def test_a_unit_that_is_lost_runs_again_as_often_as_the_protocol_says(enrolled, start):
    campaign = enrolled(retries=2)
    unit_id = campaign.table[0].unit_id
    writer, said = start(campaign)
    for times in (1, 2):
        writer.lost(unit_id, RuntimeError("the node\nwent away"))
        assert writer.again == {unit_id}
        assert campaign.status(campaign.table[0]) == schema.PENDING
        assert f"({times} of 2 times): RuntimeError: the node went away" in said.getvalue()
        writer.again.clear()
    writer.lost(unit_id, RuntimeError("the node\nwent away"))
    assert writer.again == set()
    assert campaign.status(campaign.table[0]) == schema.FAILED
    summary = writer.close()
    assert summary.failed == {unit_id: "lost 3 times, last by RuntimeError: the node went away"}
    assert summary.lost == {}
    found = runs.load_record(campaign.tracking_uri, "tiny").units.set_index("unit_id")
    assert found.loc[unit_id, "status"] == schema.FAILED
    assert found.loc[unit_id, "times_lost"] == "3"


def test_losses_of_earlier_runs_count(enrolled, start):
    campaign = enrolled(retries=1)
    unit_id = campaign.table[0].unit_id
    start(campaign)[0].lost(unit_id, RuntimeError("gone"))
    start(campaign)[0].lost(unit_id, RuntimeError("gone"))
    assert campaign.status(campaign.table[0]) == schema.FAILED


def test_a_full_disk_leaves_the_unit_as_it_was(enrolled, start):
    campaign = enrolled(retries=0)
    row = campaign.table[0]
    writer, said = start(campaign)
    writer.open()
    writer.lost(row.unit_id, OSError(28, "No space left on device"))
    summary = writer.close()
    assert campaign.status(row) == schema.PENDING
    assert campaign.note(row.unit_id, "lost") == {}
    assert writer.again == set()
    assert summary.failed == {}
    assert "No space left on device" in summary.lost[row.unit_id]
    assert f"{row.unit_id} could not go on" in said.getvalue()


def test_a_cause_is_looked_for_behind_what_ray_raises(enrolled, start):
    class TaskError(Exception):
        cause = OSError(28, "No space left on device")

    campaign = enrolled(retries=0)
    start(campaign)[0].lost(campaign.table[0].unit_id, TaskError("a long traceback"))
    assert campaign.status(campaign.table[0]) == schema.PENDING


def test_a_unit_that_was_stopped_is_as_it_was(enrolled, start):
    campaign = enrolled()
    writer, said = start(campaign)
    writer.open()
    writer.started(campaign.table[0].unit_id)
    writer.ended(campaign.table[0].unit_id)
    summary = writer.close()
    assert "stopped; what is done of it is kept" in said.getvalue()
    assert (summary.finished, summary.failed, summary.lost) == (0, {}, {})


@pytest.fixture
def away(monkeypatch):
    """Return a function that makes the record refuse its next writes."""

    def refuse(times):
        write, left = Record.write_unit, [times]

        def flaky(self, *words):
            if left[0]:
                left[0] -= 1
                raise Unreachable("no answer")
            return write(self, *words)

        monkeypatch.setattr(Record, "write_unit", flaky)

    return refuse


def test_a_record_that_is_away_for_a_while_gets_every_unit_once(enrolled, finish, start, away):
    campaign = enrolled()
    away(times=2)
    writer, said = start(campaign)
    writer.open()
    run_all(writer, campaign, finish)
    summary = writer.close()
    assert (summary.finished, summary.owed) == (4, 0)
    assert said.getvalue().count("the record is away") == 1
    assert said.getvalue().count("the record is back") == 1
    assert set(runs.load_record(campaign.tracking_uri, "tiny").units["status"]) == {schema.FINISHED}


def test_what_a_record_is_owed_is_written_by_the_next_run(enrolled, finish, start, away):
    campaign = enrolled()
    away(times=5)  # of four units, and of the last try
    writer, _ = start(campaign)
    writer.open()
    run_all(writer, campaign, finish)
    summary = writer.close()
    assert (summary.finished, summary.owed) == (4, 4)
    assert set(runs.load_record(campaign.tracking_uri, "tiny").units["status"]) == {schema.PENDING}
    writer, _ = start(campaign)
    writer.open()
    writer.write_assets([])
    assert writer.close().owed == 0
    assert set(runs.load_record(campaign.tracking_uri, "tiny").units["status"]) == {schema.FINISHED}


def test_what_goes_wrong_in_writing_is_raised(enrolled, finish, start, monkeypatch):
    def full(self, *words):
        raise OSError(28, "No space left on device")

    campaign = enrolled()
    writer, _ = start(campaign)
    writer.open()
    monkeypatch.setattr(Record, "write_unit", full)
    run_all(writer, campaign, finish)
    with pytest.raises(OSError, match="No space left"):
        writer.close()


@pytest.mark.parametrize("lost", [False, True])
def test_a_record_that_was_lost_and_is_made_again_says_so(enrolled, start, lost):
    """What was looked at before is not known, and the report must not call it nothing."""
    campaign = enrolled()
    if lost:
        campaign.note_committed()  # to a record that is not there
    writer, _ = start(campaign)
    writer.open()
    tags, _ = writer.record.registered()
    assert (schema.REGISTERED_AGAIN in tags) == lost


@pytest.fixture
def unreachable(monkeypatch):
    def refuse(self, *words):
        raise Unreachable("the MLflow server does not answer")

    monkeypatch.setattr(Record, "attach", refuse)


def test_no_campaign_begins_while_its_record_is_away(enrolled, start, unreachable):
    campaign = enrolled()
    writer, _ = start(campaign)
    with pytest.raises(ValueError, match="does not answer"):
        writer.open()
    assert not campaign.committed()


def test_a_campaign_that_was_committed_goes_on_without_its_record(
    enrolled, finish, start, unreachable
):
    campaign = enrolled()
    campaign.note_committed()
    writer, said = start(campaign)
    writer.open()
    assert "the record is away and will be written when it is back" in said.getvalue()
    run_all(writer, campaign, finish)
    summary = writer.close()
    assert (summary.finished, summary.owed) == (4, 4)


def test_a_finished_campaign_whose_failure_is_retried_is_recorded_as_it_ended(
    enrolled, finish, start
):
    campaign = enrolled()
    failing, *others = campaign.table
    for row in others:
        finish(campaign, row)
    write_note(campaign.unit_folder(failing.unit_id), "failed", {"reason": "ValueError: no"})
    for expected in (schema.FAILED, schema.FINISHED):
        writer, _ = start(campaign)
        writer.open()
        writer.write_assets([])
        writer.close()
        units = runs.load_record(campaign.tracking_uri, "tiny").units.set_index("unit_id")
        assert units.loc[failing.unit_id, "status"] == expected
        campaign.retry_failures()
        finish(campaign, failing)


def test_a_record_that_is_away_is_not_asked_for_every_unit(enrolled, finish, start, monkeypatch):
    """A server that does not answer at all costs a quarter of a minute each time."""
    campaign, asked = enrolled(), []
    writer, _ = start(campaign)

    def away():
        asked.append(1)
        raise Unreachable("no answer")

    monkeypatch.setattr(writer, "connect", away)
    monkeypatch.setattr(writer_module, "PAUSE", 60.0)
    for row in campaign.table:
        finish(campaign, row)
        writer.write([row])
    assert (len(asked), writer.owed) == (1, campaign.table)


def test_why_a_unit_failed_before_it_was_retried_stays_in_the_record(enrolled, finish, start):
    campaign = enrolled()
    row = campaign.table[0]
    note = {"reasons": ["ActorDiedError: gone"]}
    write_note(campaign.unit_folder(row.unit_id), "failed", {"reason": "lost 1 times"})
    write_note(campaign.unit_folder(row.unit_id), "lost", note)
    campaign.retry_failures()
    finish(campaign, row)
    writer, _ = start(campaign)
    writer.open()
    writer.write([row])
    units = runs.load_record(campaign.tracking_uri, "tiny").units.set_index("unit_id")
    found = units.loc[row.unit_id, ["status", "failed_before", "times_lost"]]
    assert found.tolist() == [schema.FINISHED, "lost 1 times", "1"]


def test_a_unit_whose_pictures_are_gone_is_recorded_without(enrolled, finish, start):
    campaign = enrolled()
    row, other = campaign.table[:2]
    for one in (row, other):
        finish(campaign, one)
    (campaign.unit_folder(row.unit_id) / "score.pt").unlink()
    (campaign.unit_folder(other.unit_id) / "outcome.json").write_text("[]")
    writer, said = start(campaign)
    writer.open()
    writer.write([row])
    assert f"{row.unit_id} is recorded without pictures" in said.getvalue()
    units = runs.load_record(campaign.tracking_uri, "tiny").units.set_index("unit_id")
    assert units.loc[row.unit_id, "status"] == schema.FINISHED
    assert campaign.status(other) == schema.PENDING


def test_notes_are_json_with_a_time(enrolled, start):
    campaign = enrolled()
    before = time.time()
    start(campaign)[0].started(campaign.table[0].unit_id)
    path = campaign.unit_folder(campaign.table[0].unit_id) / "start.json"
    assert before <= json.loads(path.read_text())["time"] <= time.time()


def test_models_kept_at_thresholds_are_a_tag_and_no_column_of_any_table(enrolled, finish, start):
    """When one was kept was decided after treatment; an analysis must not come across it."""
    campaign = enrolled()
    writer, _ = start(campaign)
    writer.open()
    kept = {"train-acc-0.90.pt": {"epoch": 3, "clean_acc": 0.9}}
    for row in campaign.pending():
        writer.started(row.unit_id)
        outcome = finish(campaign, row) | {schema.SELECTED_TAG: kept}
        write_whole(
            campaign.unit_folder(row.unit_id) / "outcome.json", json.dumps(outcome).encode()
        )
        writer.ended(row.unit_id)
    writer.close()
    units = writer.record.units().values()
    tags = [unit.tags[schema.SELECTED_TAG] for unit in units]
    assert [json.loads(tag) for tag in tags] == [kept] * len(campaign.table)
    found = runs.load_record(campaign.tracking_uri, "tiny")
    assert not [name for name in found.units if "select" in name or "kept" in name]
