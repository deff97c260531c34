"""What the driver does when units start, end and are lost, and what it records; without Ray."""

import errno
import io
import json
import time

import pytest

from analysis import schema
from analysis.record import reader as runs
from analysis.record.errors import Unreachable
from atat_ray.utils.json_files import write_signed
from atat_ray.utils.messages import lines_to
from trials.campaign.notes import write_note
from trials.execution import recorder
from trials.execution.display import Lines
from trials.execution.events import UnitEvents
from trials.tracking.record import MlflowRecord


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(recorder, "CLOSE_PATIENCE", 0.0)
    monkeypatch.setattr(recorder, "OUTAGE_PAUSE", 0.0)


@pytest.fixture
def start():
    """Return a function that makes the events of a campaign, and the stream of their lines."""

    def make(campaign):
        said = io.StringIO()
        return UnitEvents(campaign, Lines(said)), said

    return make


def run_all(events, campaign, finish):
    for row in campaign.pending():
        events.unit_started(row.unit_id)
        finish(campaign, row)
        events.unit_ended(row.unit_id)


def test_a_campaign_is_recorded_whole(allocated, finish, start):
    campaign = allocated(units_per_arm=2)
    events, said = start(campaign)
    events.recorder.open_or_postpone()
    events.recorder.assets = [{"block": "split-0"}]
    events.recorder.catch_up()
    run_all(events, campaign, finish)
    summary = events.close()
    assert (summary.finished, summary.total, summary.unrecorded) == (8, 8, 0)
    found = runs.load_record(campaign.tracking_uri, "tiny")
    assert set(found.units["status"]) == {schema.FINISHED}
    assert list(found.units["start_order"]) == list(range(1, 9))
    assert found.assets == [{"block": "split-0"}]
    assert {name: found.tags[name] for name in campaign.hashes()} == campaign.hashes()
    assert found.tags["nonce"] == "7"
    assert said.getvalue().splitlines()[-1] == "[8/8] split-1-04 finished"
    for row in campaign.table:
        assert campaign.outcome(row)["clean_acc"] in set(found.units[schema.CLEAN_ACC])


def test_what_is_said_has_no_outcome_in_it(allocated, finish, start):
    campaign = allocated()
    events, said = start(campaign)
    events.recorder.open_or_postpone()
    run_all(events, campaign, finish)
    events.close()
    assert "acc" not in said.getvalue()
    for row in campaign.table:
        assert f"{campaign.outcome(row)['clean_acc']:.2f}" not in said.getvalue()
        assert row.arm not in said.getvalue()


def test_the_order_of_starts_goes_on_where_an_earlier_run_ended(allocated, finish, start):
    campaign = allocated()
    first, second, *_ = campaign.table
    events, _ = start(campaign)
    events.unit_started(second.unit_id)
    again, _ = start(campaign)
    again.unit_started(first.unit_id)
    again.unit_started(second.unit_id)  # it was cut off, and keeps its place
    assert campaign.note(second.unit_id, "start")["order"] == 1
    assert campaign.note(first.unit_id, "start")["order"] == 2


def test_the_nonce_stays_secret_while_a_unit_is_pending(allocated, finish, start):
    campaign = allocated(nonce="secret")
    events, _ = start(campaign)
    events.recorder.open_or_postpone()
    for row in campaign.table[1:]:
        finish(campaign, row)
        events.unit_ended(row.unit_id)
    events.close()
    assert runs.load_record(campaign.tracking_uri, "tiny").tags["nonce"] == ""
    events, _ = start(campaign)
    events.recorder.open_or_postpone()
    finish(campaign, campaign.table[0])
    events.unit_ended(campaign.table[0].unit_id)
    events.close()
    assert runs.load_record(campaign.tracking_uri, "tiny").tags["nonce"] == campaign.nonce


def test_a_unit_that_is_lost_runs_again_as_often_as_the_protocol_says(allocated, start):
    campaign = allocated(retries=2)
    unit_id = campaign.table[0].unit_id
    events, said = start(campaign)
    for times in (1, 2):
        events.unit_lost(unit_id, RuntimeError("the node\nwent away"))
        assert events.retries.again == {unit_id}
        assert campaign.status(campaign.table[0]) == schema.PENDING
        assert f"({times} of 2 times): RuntimeError: the node went away" in said.getvalue()
        events.retries.take_again()
    events.unit_lost(unit_id, RuntimeError("the node\nwent away"))
    assert events.retries.again == set()
    assert campaign.status(campaign.table[0]) == schema.FAILED
    summary = events.close()
    assert summary.failed == {unit_id: "lost 3 times, last by RuntimeError: the node went away"}
    assert summary.lost == {}
    found = runs.load_record(campaign.tracking_uri, "tiny").units.set_index("unit_id")
    assert found.loc[unit_id, "status"] == schema.FAILED
    assert found.loc[unit_id, "times_lost"] == "3"


def test_losses_of_earlier_runs_count(allocated, start):
    campaign = allocated(retries=1)
    unit_id = campaign.table[0].unit_id
    start(campaign)[0].unit_lost(unit_id, RuntimeError("gone"))
    start(campaign)[0].unit_lost(unit_id, RuntimeError("gone"))
    assert campaign.status(campaign.table[0]) == schema.FAILED


def test_memory_that_ran_out_runs_again_with_fewer_at_a_time_and_is_no_failure(allocated, start):
    """Another program may need the memory; whoever frees it gets the undisturbed table."""
    campaign = allocated(retries=1)
    row, *others = campaign.table
    events, said = start(campaign)
    assert events.most() is None
    for one in campaign.table:
        events.unit_started(one.unit_id)
    events.unit_lost(row.unit_id, MemoryError("no more"))
    assert (events.retries.again, events.most()) == ({row.unit_id}, len(others))
    line = said.getvalue().splitlines()[-1]
    assert line.startswith(
        f"{row.unit_id} was lost and will run again, at most 3 at a time: memory"
    )
    assert events.retries.take_pause() > 0
    events.retries.take_again()
    events.unit_lost(row.unit_id, MemoryError("no more"))
    assert (events.retries.again, campaign.status(row)) == (set(), schema.PENDING)
    assert "close other programs" in events.close().lost[row.unit_id]
    again, _ = start(campaign)  # later runs begin anew
    again.unit_lost(row.unit_id, MemoryError("no more"))
    assert again.retries.again == {row.unit_id}
    assert campaign.times_lost(row.unit_id) == 3
    again.unit_lost(row.unit_id, RuntimeError("the node went away"))
    assert campaign.status(row) == schema.PENDING  # one loss counts, of one that may be retried


def test_a_pass_that_ray_lost_runs_again_and_counts_against_no_unit(allocated, finish, start):
    campaign = allocated(retries=1)
    first, second, *_ = campaign.table
    events, said = start(campaign)
    for _ in range(3):
        events.unit_started(first.unit_id)
        events.unit_started(second.unit_id)
        events.pass_lost(RuntimeError("Caught unexpected exception"))
        assert events.retries.take_again() == {first.unit_id, second.unit_id}
        assert campaign.status(first) == schema.PENDING
        finish(campaign, campaign.table[2])
        events.recorder.record_unit = lambda row: None
        events.unit_ended(campaign.table[2].unit_id)  # the run makes progress
    assert said.getvalue().count("Ray is started again, 2 units will run again: Runtime") == 3
    events.pass_lost(MemoryError())
    with pytest.raises(ValueError, match="Ray was lost 2 times, last by memory ran out"):
        events.pass_lost(MemoryError())


def test_a_unit_that_is_lost_as_the_run_stops_is_as_it_was(allocated, start):
    """Else three jobs that a cluster ends would make the unit a failure."""
    campaign = allocated(retries=0)
    row = campaign.table[0]
    campaign.stop_file.touch()
    events, said = start(campaign)
    events.unit_lost(row.unit_id, RuntimeError("killed"))
    assert (campaign.status(row), campaign.times_lost(row.unit_id)) == (schema.PENDING, 0)
    assert f"{row.unit_id} was lost as the run stopped" in said.getvalue()


def test_a_fault_of_the_environment_that_passes_is_tried_again_and_is_no_failure(allocated, start):
    campaign = allocated(retries=1)
    row = campaign.table[0]
    events, _ = start(campaign)
    events.unit_lost(row.unit_id, OSError(errno.ESTALE, "Stale file handle"))
    assert events.retries.take_again() == {row.unit_id}
    events.unit_lost(row.unit_id, OSError(errno.ESTALE, "Stale file handle"))
    assert (events.retries.again, campaign.status(row)) == (set(), schema.PENDING)


def test_a_full_disk_leaves_the_unit_as_it_was(allocated, start):
    campaign = allocated(retries=0)
    row = campaign.table[0]
    events, said = start(campaign)
    events.recorder.open_or_postpone()
    events.unit_lost(row.unit_id, OSError(28, "No space left on device"))
    summary = events.close()
    assert campaign.status(row) == schema.PENDING
    assert campaign.note(row.unit_id, "lost") == {}
    assert events.retries.again == set()
    assert summary.failed == {}
    assert "No space left on device" in summary.lost[row.unit_id]
    assert f"{row.unit_id} could not go on" in said.getvalue()


def test_a_cause_is_looked_for_behind_what_ray_raises(allocated, start):
    class TaskError(Exception):
        cause = OSError(28, "No space left on device")

    campaign = allocated(retries=0)
    start(campaign)[0].unit_lost(campaign.table[0].unit_id, TaskError("a long traceback"))
    assert campaign.status(campaign.table[0]) == schema.PENDING


def test_a_unit_that_was_stopped_is_as_it_was(allocated, start):
    campaign = allocated()
    events, said = start(campaign)
    events.recorder.open_or_postpone()
    events.unit_started(campaign.table[0].unit_id)
    events.unit_ended(campaign.table[0].unit_id)
    summary = events.close()
    assert "stopped; its finished stages are kept" in said.getvalue()
    assert (summary.finished, summary.failed, summary.lost) == (0, {}, {})


@pytest.fixture
def away(monkeypatch):
    """Return a function that makes the record refuse its next writes."""

    def refuse(times):
        write, left = MlflowRecord.write_unit, [times]

        def flaky(self, *words):
            if left[0]:
                left[0] -= 1
                raise Unreachable("no answer")
            return write(self, *words)

        monkeypatch.setattr(MlflowRecord, "write_unit", flaky)

    return refuse


def test_a_record_that_is_away_for_a_while_gets_every_unit_once(allocated, finish, start, away):
    campaign = allocated()
    away(times=2)
    events, said = start(campaign)
    events.recorder.open_or_postpone()
    run_all(events, campaign, finish)
    summary = events.close()
    assert (summary.finished, summary.unrecorded) == (4, 0)
    assert said.getvalue().count("the record cannot be reached") == 1
    assert said.getvalue().count("the record can be reached again") == 1
    assert set(runs.load_record(campaign.tracking_uri, "tiny").units["status"]) == {schema.FINISHED}


def test_what_a_record_is_owed_is_written_by_the_next_run(allocated, finish, start, away):
    campaign = allocated()
    away(times=5)  # of four units, and of the last try
    events, _ = start(campaign)
    events.recorder.open_or_postpone()
    run_all(events, campaign, finish)
    summary = events.close()
    assert (summary.finished, summary.unrecorded) == (4, 4)
    assert set(runs.load_record(campaign.tracking_uri, "tiny").units["status"]) == {schema.PENDING}
    events, _ = start(campaign)
    events.recorder.open_or_postpone()
    events.recorder.catch_up()
    assert events.close().unrecorded == 0
    assert set(runs.load_record(campaign.tracking_uri, "tiny").units["status"]) == {schema.FINISHED}


def test_what_goes_wrong_in_writing_is_raised(allocated, finish, start, monkeypatch):
    def full(self, *words):
        raise OSError(28, "No space left on device")

    campaign = allocated()
    events, _ = start(campaign)
    events.recorder.open_or_postpone()
    monkeypatch.setattr(MlflowRecord, "write_unit", full)
    run_all(events, campaign, finish)
    with pytest.raises(OSError, match="No space left"):
        events.close()


@pytest.mark.parametrize("lost", [False, True])
def test_a_record_that_was_lost_and_is_made_again_says_so(allocated, start, lost):
    """What was looked at before is not known, and the report must not call it nothing."""
    campaign = allocated()
    if lost:
        campaign.note_committed()  # to a record that is not there
    events, _ = start(campaign)
    events.recorder.open_or_postpone()
    tags, _ = events.recorder.record.registered()
    assert (schema.REGISTERED_AGAIN in tags) == lost


@pytest.fixture
def unreachable(monkeypatch):
    def refuse(self, *words):
        raise Unreachable("the MLflow server does not answer")

    monkeypatch.setattr(MlflowRecord, "attach", refuse)


def test_no_campaign_begins_while_its_record_is_away(allocated, start, unreachable):
    campaign = allocated()
    events, _ = start(campaign)
    with pytest.raises(ValueError, match="does not answer"):
        events.recorder.open_or_postpone()
    assert not campaign.is_committed()


def test_a_campaign_that_was_committed_goes_on_without_its_record(
    allocated, finish, start, unreachable
):
    campaign = allocated()
    campaign.note_committed()
    events, said = start(campaign)
    events.recorder.open_or_postpone()
    assert "the record cannot be reached and will be written later" in said.getvalue()
    run_all(events, campaign, finish)
    summary = events.close()
    assert (summary.finished, summary.unrecorded) == (4, 4)


def test_a_finished_campaign_whose_failure_is_retried_is_recorded_as_it_ended(
    allocated, finish, start
):
    campaign = allocated()
    failing, *others = campaign.table
    for row in others:
        finish(campaign, row)
    write_note(campaign.unit_folder(failing.unit_id), "failed", {"reason": "ValueError: no"})
    for expected in (schema.FAILED, schema.FINISHED):
        events, _ = start(campaign)
        events.recorder.open_or_postpone()
        events.recorder.catch_up()
        events.close()
        units = runs.load_record(campaign.tracking_uri, "tiny").units.set_index("unit_id")
        assert units.loc[failing.unit_id, "status"] == expected
        campaign.retry_failures()
        finish(campaign, failing)


def test_a_record_that_is_away_is_not_asked_for_every_unit(allocated, finish, start, monkeypatch):
    """A server that does not answer at all costs a quarter of a minute each time."""
    campaign, asked = allocated(), []
    events, _ = start(campaign)

    def away():
        asked.append(1)
        raise Unreachable("no answer")

    monkeypatch.setattr(events.recorder, "connect", away)
    monkeypatch.setattr(recorder, "OUTAGE_PAUSE", 60.0)
    for row in campaign.table:
        finish(campaign, row)
        events.recorder.write([row])
    assert (len(asked), events.recorder.unrecorded) == (1, campaign.table)


def test_why_a_unit_failed_before_it_was_retried_stays_in_the_record(allocated, finish, start):
    campaign = allocated()
    row = campaign.table[0]
    note = {"reasons": ["ActorDiedError: gone"]}
    write_note(campaign.unit_folder(row.unit_id), "failed", {"reason": "lost 1 times"})
    write_note(campaign.unit_folder(row.unit_id), "lost", note)
    campaign.retry_failures()
    finish(campaign, row)
    events, _ = start(campaign)
    events.recorder.open_or_postpone()
    events.recorder.write([row])
    units = runs.load_record(campaign.tracking_uri, "tiny").units.set_index("unit_id")
    found = units.loc[row.unit_id, ["status", "failed_before", "times_lost"]]
    assert found.tolist() == [schema.FINISHED, "lost 1 times", "1"]


def test_a_unit_whose_pictures_are_gone_is_recorded_without(allocated, finish, start):
    campaign = allocated()
    row, other = campaign.table[:2]
    for one in (row, other):
        finish(campaign, one)
    (campaign.unit_folder(row.unit_id) / "score.pt").unlink()
    (campaign.unit_folder(other.unit_id) / "outcome.json").write_text("[]")
    events, said = start(campaign)
    events.recorder.open_or_postpone()
    events.recorder.write([row])
    assert f"{row.unit_id} is recorded without pictures" in said.getvalue()
    units = runs.load_record(campaign.tracking_uri, "tiny").units.set_index("unit_id")
    assert units.loc[row.unit_id, "status"] == schema.FINISHED
    assert campaign.status(other) == schema.PENDING


@pytest.mark.parametrize("name", ["start", "place", "lost", "failed", "failed-before"])
@pytest.mark.parametrize(
    "text", ["", '{"order": "third", "reasons": 3, "failures": "x"}', "[" * 100_000, "7", "\0"]
)
def test_a_damaged_note_is_named_and_counts_as_missing(allocated, start, name, text):
    campaign = allocated()
    row, lines = campaign.table[0], []
    path = campaign.unit_folder(row.unit_id) / f"{name}.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with lines_to(lines.append):
        events, _ = start(campaign)
        events.unit_started(row.unit_id)
        assert campaign.times_lost(row.unit_id) == 0
        assert campaign.status(row) == schema.PENDING
        assert campaign.note(row.unit_id, name) == {} or name == "start"
        campaign.retry_failures()
    assert campaign.note(row.unit_id, "start")["order"] == 1
    assert [line.startswith(f"{path} ") for line in lines] == [True]


def test_notes_are_json_with_a_time(allocated, start):
    campaign = allocated()
    before = time.time()
    start(campaign)[0].unit_started(campaign.table[0].unit_id)
    path = campaign.unit_folder(campaign.table[0].unit_id) / "start.json"
    assert before <= json.loads(path.read_text())["time"] <= time.time()


def test_models_kept_at_thresholds_are_a_tag_and_no_column_of_any_table(allocated, finish, start):
    """When one was kept was decided after treatment; an analysis must not come across it."""
    campaign = allocated()
    events, _ = start(campaign)
    events.recorder.open_or_postpone()
    kept = {"train-acc-0.90.pt": {"epoch": 3, "clean_acc": 0.9}}
    for row in campaign.pending():
        events.unit_started(row.unit_id)
        outcome = finish(campaign, row) | {schema.SELECTED_TAG: kept}
        write_signed(campaign.unit_folder(row.unit_id) / "outcome.json", outcome)
        events.unit_ended(row.unit_id)
    events.close()
    units = events.recorder.record.units().values()
    tags = [unit.data.tags[schema.SELECTED_TAG] for unit in units]
    assert [json.loads(tag) for tag in tags] == [kept] * len(campaign.table)
    found = runs.load_record(campaign.tracking_uri, "tiny")
    assert not [name for name in found.units if "select" in name or "kept" in name]


def test_assets_may_be_lost_as_often_in_every_pass(allocated, start):
    """On a cluster of spot nodes a run has many passes, and each builds or finds the assets."""
    events, _ = start(allocated(retries=1))
    for _ in range(3):
        events.retries.assets_lost("assets of split-0", MemoryError("of the node"))
        events.retries.take_again()
    events.retries.assets_lost("assets of split-0", MemoryError("of the node"))
    with pytest.raises(ValueError, match="run the same command again"):
        events.retries.assets_lost("assets of split-0", MemoryError("of the node"))


def test_a_second_failure_that_was_not_recorded_is_recorded_by_the_next_run(allocated, start):
    """The status is the same as before; the reason is not."""
    campaign = allocated()
    row = campaign.table[0]
    for reason in ("ValueError: first", "ValueError: second"):
        write_note(campaign.unit_folder(row.unit_id), "failed", {"reason": reason})
        events, _ = start(campaign)
        events.recorder.open_or_postpone()
        events.recorder.catch_up()
        events.close()
        units = runs.load_record(campaign.tracking_uri, "tiny").units.set_index("unit_id")
        assert units.loc[row.unit_id, "reason"] == reason
        campaign.retry_failures()
    assert units.loc[row.unit_id, "failed_before"] == "ValueError: first"
