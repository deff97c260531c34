"""One pass of Ray Tune: first in, first out; a unit that is lost does not stop the others."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from atat_ray.unit.distributed import share_of_worker
from atat_ray.utils.messages import tell
from trials.campaign.layout import FolderLayout
from trials.execution.classify import Kind, classify
from trials.execution.resources import Resources
from trials.execution.tasks import Task
from trials.execution.tune import (
    Guard,
    PassLost,
    error_of,
    make_callback,
    make_searcher,
    own_share,
    run_tasks,
)

ONE = Resources(amounts={"CPU": 1.0}, processes=1)


def do_nothing(name):
    """Work of a task that only has to end."""


@dataclass(frozen=True, kw_only=True)
class FakeTask(Task):
    """Calls a function with its name."""

    function: Callable[[str], None] = do_nothing
    after: str = ""

    def work(self):
        self.function(self.name)


class Events:
    """Keeps what it is called with."""

    def __init__(self):
        self.order, self.over, self.errors, self.lines = [], [], {}, []
        self.built_times, self.limit, self.broken = 0, None, []

    def most(self):
        return self.limit

    def broke(self, error):
        self.broken.append(error)

    def say(self, line):
        self.lines.append(line)

    def unit_started(self, unit_id):
        self.order.append(unit_id)

    def unit_ended(self, unit_id):
        self.over.append(unit_id)

    def unit_lost(self, unit_id, error):
        self.errors[unit_id] = error

    def assets_built(self):
        self.built_times += 1

    assets_failed = unit_lost


def cause_of(error):
    return getattr(error, "cause", None) or error


@pytest.fixture
def make(tmp_path):
    """Return a function that makes a task of a name in a folder that all nodes see."""
    layout = FolderLayout(folder=tmp_path)
    layout.committed_file.touch()

    def task(name, function=do_nothing, *, after="", resources=ONE):
        return FakeTask(
            name=name, layout=layout, resources=resources, function=function, after=after
        )

    return task


@pytest.fixture
def schedule(local_ray, tmp_path):
    """Return a function that runs tasks, one at a time unless told otherwise."""
    from ray import cloudpickle

    # The processes of Ray cannot import this module.
    cloudpickle.register_pickle_by_value(sys.modules[FakeTask.__module__])

    def run(units, assets=(), *, at_a_time=1):
        events = Events()
        run_tasks(
            assets,
            units,
            at_a_time=at_a_time,
            storage=tmp_path,
            stop_file=tmp_path / "stop",
            events=events,
        )
        return events

    return run


@pytest.mark.ray
@pytest.mark.filterwarnings("default")  # Ray warns of its own settings
def test_units_run_in_their_order_and_a_lost_one_stops_no_other(schedule, make, tmp_path):
    def work(name):
        if name == "full":
            raise OSError(28, "No space left on device")
        if name == "killed":
            os._exit(1)
        (tmp_path / name).write_text(str(time.time()))

    queue = ["c", "full", "a", "killed", "b"]
    events = schedule([make(name, work) for name in queue])
    assert events.order == queue
    assert events.over == ["c", "a", "b"]
    times = [float((tmp_path / name).read_text()) for name in "cab"]
    assert times == sorted(times)
    assert set(events.errors) == {"full", "killed"}
    assert isinstance(cause_of(events.errors["full"]), OSError)
    assert type(cause_of(events.errors["killed"])).__name__ == "ActorDiedError"


@pytest.mark.ray
@pytest.mark.filterwarnings("default")  # Ray warns of its own settings
def test_lines_for_the_user_reach_the_driver_from_any_task(schedule, make):
    def work(name):
        tell(f"{name} found a damaged file")
        if name == "c":
            raise OSError(28, "No space left on device")

    events = schedule([make(name, work) for name in "bc"], [make("a", work)])
    assert events.lines == [f"{name} found a damaged file" for name in "abc"]


@pytest.mark.ray
@pytest.mark.filterwarnings("default")  # Ray warns of its own settings
def test_nothing_starts_after_a_campaign_was_asked_to_stop(schedule, make, tmp_path):
    def work(name):
        (tmp_path / "stop").touch()

    events = schedule([make(name, work) for name in "abcd"])
    assert events.order[0] == "a"
    assert "d" not in events.order
    assert events.over == events.order


@pytest.mark.ray
@pytest.mark.filterwarnings("default")  # Ray warns of its own settings
def test_units_that_wait_in_ray_when_a_campaign_is_stopped_have_not_started(
    schedule, make, tmp_path
):
    def work(name):
        (tmp_path / "stop").touch()

    events = schedule([make(name, work) for name in "abcd"], at_a_time=4)
    assert 1 <= len(events.order) <= 2  # which find a CPU before the first of them ends
    assert sorted(events.over) == sorted(events.order)


def test_a_node_that_does_not_see_the_folder_computes_nothing(make, tmp_path):
    (tmp_path / "committed.json").unlink()
    with pytest.raises(OSError, match=f"does not see {tmp_path}, which all nodes need"):
        make("a", lambda name: (tmp_path / name).touch()).run()
    assert not (tmp_path / "a").exists()


def names(searcher, trials):
    return [searcher.suggest(trial)["task"].name for trial in trials]


def test_the_queue_hands_out_each_unit_once_and_learns_nothing(make, tmp_path):
    queue = make_searcher([], iter([make("a"), make("b")]), tmp_path / "stop", Guard(Events()))
    assert names(queue, "1") == ["a"]
    queue.on_trial_complete("1", {"done": 1})
    assert names(queue, "2") == ["b"]
    assert queue.suggest("3") == queue.FINISHED


def test_a_unit_is_held_back_until_its_assets_are_built(make, tmp_path):
    units = [make(name, after=name[0]) for name in ("xa", "yb", "xc")]
    queue = make_searcher([make("x"), make("y")], iter(units), tmp_path / "stop", Guard(Events()))
    assert names(queue, "12") == ["x", "y"]
    assert queue.suggest("3") is None
    queue.on_trial_complete("1", {"done": 1})
    assert names(queue, "3") == ["xa"]
    assert queue.suggest("4") is None  # no unit overtakes another
    queue.on_trial_complete("2", {"done": 1})
    assert names(queue, "45") == ["yb", "xc"]
    assert queue.suggest("6") == queue.FINISHED


def test_the_queue_never_begins_where_assets_failed(make, tmp_path):
    guard = Guard(Events())
    queue = make_searcher([make("x")], iter([make("a", after="x")]), tmp_path / "stop", guard)
    queue.suggest("1")
    queue.on_trial_complete("1", error=True)
    assert queue.suggest("2") == queue.FINISHED


def test_no_more_tasks_run_at_a_time_than_memory_allows(make, tmp_path):
    events = Events()
    units = iter([make(name) for name in "abc"])
    queue = make_searcher([], units, tmp_path / "stop", Guard(events))
    assert names(queue, "12") == ["a", "b"]
    events.limit = 1  # memory ran out
    assert queue.suggest("3") is None
    queue.on_trial_complete("1", error=True)
    assert queue.suggest("3") is None
    queue.on_trial_complete("2", {"done": 1})
    assert names(queue, "3") == ["c"]


def trial(name, **attributes):
    return SimpleNamespace(config={"task": SimpleNamespace(name=name)}, **attributes)


@pytest.mark.parametrize("event", ["unit_started", "unit_ended", "unit_lost"])
def test_an_event_that_cannot_be_noted_ends_the_queue_and_keeps_its_error(make, tmp_path, event):
    """Tune would end by a hundred lines, and by another error."""

    def refuse(*words):
        raise PermissionError(13, "Permission denied", "start.json")

    events = Events()
    setattr(events, event, refuse)
    guard = Guard(events)
    callback = make_callback([], tmp_path / "stop", guard)
    broken = trial("a", pickled_error_file=None, error_file=None)
    callback.on_trial_start(0, [], broken)
    callback.on_trial_complete(0, [], broken)
    callback.on_trial_error(0, [], broken)
    assert [type(error) for error in guard.errors] == [PermissionError]
    assert events.broken == guard.errors
    queue = make_searcher([], iter([make("b")]), tmp_path / "stop", guard)
    assert queue.suggest("1") == queue.FINISHED


def test_a_proposal_that_cannot_be_noted_ends_the_queue_and_keeps_its_error(tmp_path):
    def propose():
        raise OSError(28, "No space left on device")
        yield

    guard = Guard(Events())
    queue = make_searcher([], propose(), tmp_path / "stop", guard)
    assert queue.suggest("1") == queue.FINISHED
    assert [error.errno for error in guard.errors] == [28]


def test_an_error_of_which_tune_keeps_the_text_alone_is_read(tmp_path):
    """As of memory that ran out."""
    path = tmp_path / "error.txt"
    path.write_text("Failure # 1 (occurred at 2026-11-28)\n1 worker(s) were killed\n")
    error = error_of(trial("a", pickled_error_file=None, error_file=str(path)))
    assert str(error) == "1 worker(s) were killed"
    gone = error_of(trial("a", pickled_error_file=None, error_file=None))
    assert str(gone) == "its process died"


def test_tune_that_ends_by_itself_has_lost_its_pass(make, tmp_path, monkeypatch):
    from ray import tune

    def end(tuner):
        raise RuntimeError("Caught unexpected exception") from MemoryError()

    monkeypatch.setattr(tune.Tuner, "fit", end)
    options = {"at_a_time": 1, "storage": tmp_path, "stop_file": tmp_path / "stop"}
    with pytest.raises(PassLost) as caught:
        run_tasks([], [make("a")], events=Events(), **options)
    assert classify(caught.value).kind is Kind.MEMORY


@pytest.mark.ray
@pytest.mark.filterwarnings("default")  # Ray warns of its own settings
def test_units_wait_for_the_assets_of_their_block(schedule, make, tmp_path):
    def work(name):
        time.sleep({"x": 0.3, "y": 0.6}.get(name, 0))
        (tmp_path / name).write_text(f"{time.time()} {os.getpid()}")

    units = ["xa", "yb", "yc", "xd"]
    events = schedule(
        [make(name, work, after=name[0]) for name in units],
        [make(name, work) for name in "xy"],
        at_a_time=2,
    )
    assert sorted(events.order) == sorted(events.over) == sorted(units)
    assert events.built_times == 1
    found = {name: (tmp_path / name).read_text().split() for name in ["x", "y", *units]}
    for name in units:
        assert found[name[0]][0] < found[name][0]


@pytest.mark.ray
@pytest.mark.filterwarnings("default")  # Ray warns of its own settings
def test_no_unit_starts_where_assets_failed(schedule, make):
    def work(name):
        raise ValueError(f"no {name}")

    events = schedule([make("a", work, after="x")], [make("x", work)])
    assert (events.order, events.built_times) == ([], 0)
    assert str(cause_of(events.errors["x"])) == "no x"


@pytest.mark.ray
@pytest.mark.filterwarnings("default")  # Ray warns of its own settings
def test_two_workers_find_room_on_two_cpus_beside_the_process_that_waits_for_them(schedule, make):
    def work(name):
        import ray
        from ray.util import placement_group, remove_placement_group

        group = placement_group([share_of_worker({"CPU": 1.0})] * 2)
        try:
            ray.get(group.ready(), timeout=30)
        finally:
            remove_placement_group(group)

    shared = Resources(amounts={"CPU": 1.0}, processes=2)
    events = schedule([make("a", work, resources=shared)])
    assert (events.over, events.errors) == (["a"], {})


def test_a_unit_of_workers_takes_next_to_nothing_itself():
    assert own_share(ONE) == {"CPU": 1.0}
    assert own_share(Resources(amounts={"CPU": 1.0}, processes=2)) == {"CPU": 0.01}
