"""One pass of Ray Tune: first in, first out; a unit that is lost does not stop the others."""

import os
import time

import pytest

from atat_ray.unit.distributed import share_of_worker
from trials.execution.resources import Need
from trials.execution.tune import own_share, queue_of, run_units

ONE = Need(resources={"CPU": 1.0}, processes=1)


class Events:
    """Keeps what it is told."""

    def __init__(self):
        self.order, self.over, self.errors = [], [], {}
        self.prepared_times = 0

    def started(self, unit_id):
        self.order.append(unit_id)

    def ended(self, unit_id):
        self.over.append(unit_id)

    def lost(self, unit_id, error):
        self.errors[unit_id] = error

    def prepared(self):
        self.prepared_times += 1

    unprepared = lost


def cause_of(error):
    return getattr(error, "cause", None) or error


@pytest.fixture
def schedule(local_ray, tmp_path):
    """Return a function that runs a queue one unit at a time."""

    def run(work, queue, **options):
        events, stop = Events(), tmp_path / "stop"
        settings = {"need_of": lambda unit_id: ONE, "at_a_time": 1, **options}
        run_units(work, queue, storage=tmp_path, stop=stop, events=events, **settings)
        return events

    return run


@pytest.mark.ray
@pytest.mark.filterwarnings("default")  # Ray warns of its own settings
def test_units_run_in_their_order_and_a_lost_one_stops_no_other(schedule, tmp_path):
    def work(unit_id):
        if unit_id == "full":
            raise OSError(28, "No space left on device")
        if unit_id == "killed":
            os._exit(1)
        (tmp_path / unit_id).write_text(str(time.time()))

    queue = ["c", "full", "a", "killed", "b"]
    events = schedule(work, queue)
    assert events.order == queue
    assert events.over == ["c", "a", "b"]
    times = [float((tmp_path / unit_id).read_text()) for unit_id in "cab"]
    assert times == sorted(times)
    assert set(events.errors) == {"full", "killed"}
    assert isinstance(cause_of(events.errors["full"]), OSError)
    assert type(cause_of(events.errors["killed"])).__name__ == "ActorDiedError"


@pytest.mark.ray
@pytest.mark.filterwarnings("default")  # Ray warns of its own settings
def test_nothing_starts_after_a_campaign_was_asked_to_stop(schedule, tmp_path):
    def work(unit_id):
        (tmp_path / "stop").touch()

    events = schedule(work, ["a", "b", "c", "d"])
    assert events.order[0] == "a"
    assert "d" not in events.order
    assert events.over == events.order


@pytest.mark.ray
@pytest.mark.filterwarnings("default")  # Ray warns of its own settings
def test_units_that_wait_in_ray_when_a_campaign_is_stopped_have_not_started(schedule, tmp_path):
    def work(unit_id):
        (tmp_path / "stop").touch()

    events = schedule(work, ["a", "b", "c", "d"], at_a_time=4)
    assert 1 <= len(events.order) <= 2  # which find a CPU before the first of them ends
    assert sorted(events.over) == sorted(events.order)


@pytest.mark.ray
@pytest.mark.filterwarnings("default")  # Ray warns of its own settings
def test_what_units_run_is_unpickled_once_a_process_and_never_by_the_driver(schedule, tmp_path):
    """Tune unpickles what it is given twice for every unit; with all specifications in it, the
    driver would take longer for each unit the more of them there are."""  # fmt: skip

    class Work:
        def __setstate__(self, state):
            with (tmp_path / "unpickled").open("a") as log:
                log.write(f"{os.getpid()}\n")

        def __getstate__(self):
            return {"something": 1}

        def __call__(self, unit_id):
            pass

    events = schedule(Work(), list("abcdefgh"))
    assert len(events.over) == 8
    processes = (tmp_path / "unpickled").read_text().split()
    assert str(os.getpid()) not in processes
    assert len(processes) == len(set(processes))


def test_the_queue_hands_out_each_unit_once_and_learns_nothing(tmp_path):
    queue = queue_of(["a", "b"], tmp_path / "stop")
    assert queue.suggest("1") == {"unit_id": "a"}
    queue.on_trial_complete("1", {"done": 1})
    assert queue.suggest("2") == {"unit_id": "b"}
    assert queue.suggest("3") == queue.FINISHED


def test_a_unit_is_held_back_until_what_it_waits_for_is_done(tmp_path):
    queue = queue_of(["xa", "yb", "xc"], tmp_path / "stop", ["x", "y"], lambda unit_id: unit_id[0])
    assert [queue.suggest(trial)["unit_id"] for trial in "12"] == ["x", "y"]
    assert queue.suggest("3") is None
    queue.on_trial_complete("1", {"done": 1})
    assert queue.suggest("3") == {"unit_id": "xa"}
    assert queue.suggest("4") is None  # no unit overtakes another
    queue.on_trial_complete("2", {"done": 1})
    assert [queue.suggest(trial)["unit_id"] for trial in "45"] == ["yb", "xc"]
    assert queue.suggest("6") == queue.FINISHED


def test_the_queue_never_begins_where_what_is_first_failed(tmp_path):
    queue = queue_of(["a"], tmp_path / "stop", ["x"])
    queue.suggest("1")
    queue.on_trial_complete("1", error=True)
    assert queue.suggest("2") == queue.FINISHED


@pytest.mark.ray
@pytest.mark.filterwarnings("default")  # Ray warns of its own settings
def test_units_wait_for_what_is_first(schedule, tmp_path):
    def work(name):
        time.sleep({"x": 0.3, "y": 0.6}.get(name, 0))
        (tmp_path / name).write_text(f"{time.time()} {os.getpid()}")

    units = ["xa", "yb", "yc", "xd"]
    settings = {"first": ["x", "y"], "waits_for": lambda unit_id: unit_id[0], "at_a_time": 2}
    events = schedule(work, units, **settings)
    assert sorted(events.order) == sorted(events.over) == sorted(units)
    assert events.prepared_times == 1
    found = {name: (tmp_path / name).read_text().split() for name in ["x", "y", *units]}
    for name in units:
        assert found[name[0]][0] < found[name][0]


@pytest.mark.ray
@pytest.mark.filterwarnings("default")  # Ray warns of its own settings
def test_no_unit_starts_where_what_is_first_failed(schedule):
    def work(name):
        raise ValueError(f"no {name}")

    events = schedule(work, ["a"], first=["x"])
    assert (events.order, events.prepared_times) == ([], 0)
    assert str(cause_of(events.errors["x"])) == "no x"


@pytest.mark.ray
@pytest.mark.filterwarnings("default")  # Ray warns of its own settings
def test_two_workers_find_room_on_two_cpus_beside_the_process_that_waits_for_them(schedule):
    def work(name):
        import ray
        from ray.util import placement_group, remove_placement_group

        group = placement_group([share_of_worker({"CPU": 1.0})] * 2)
        try:
            ray.get(group.ready(), timeout=30)
        finally:
            remove_placement_group(group)

    shared = Need(resources={"CPU": 1.0}, processes=2)
    events = schedule(work, ["a"], need_of=lambda unit_id: shared)
    assert (events.over, events.errors) == (["a"], {})


def test_a_unit_of_workers_takes_next_to_nothing_itself():
    assert own_share(ONE) == {"CPU": 1.0}
    assert own_share(Need(resources={"CPU": 1.0}, processes=2)) == {"CPU": 0.01}
