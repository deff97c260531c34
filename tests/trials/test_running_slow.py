"""However a campaign is run, stopped, killed or resumed, its table is the same bit for bit.

Drivers run in sessions of their own, and only what is of such a session is ever killed.
"""

import importlib
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pandas as pd
import pytest

from analysis import runs, schema
from trials.campaign import enrol, load
from trials.reading import read_protocol

pytestmark = [pytest.mark.slow, pytest.mark.ray]

# What may differ between two runs of one campaign: durations, the order and place of runs, and the
# state of the source tree, which somebody may edit meanwhile.
OF_THE_RUN = ["start_order", "node", "git_commit", "times_lost"]


class Driver:
    """``atat`` in a session of its own."""

    def __init__(self, log, *words):
        self.log = log
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trials.cli", *map(str, words)],
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def wait(self):
        return self.process.wait(timeout=300)

    def said(self):
        return self.log.read_text()

    def family(self):
        """List the processes of this session: the driver, Ray's daemons and their workers."""
        import ray  # noqa: F401

        psutil = importlib.import_module("psutil")  # which Ray brings
        found = []
        for process in psutil.process_iter():
            with suppress(ProcessLookupError, psutil.Error):
                alive = process.status() != psutil.STATUS_ZOMBIE
                if alive and os.getsid(process.pid) == self.process.pid:
                    found.append(process)
        return found

    def kill(self):
        """Kill the whole session at once, as a machine does that loses its power."""
        while family := self.family():
            for process in family:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            self.process.wait()
            time.sleep(0.1)


@pytest.fixture
def driver(tmp_path):
    """Return a function that starts drivers; none of them outlives the test."""
    started = []

    def start(*words):
        one = Driver(tmp_path / f"{len(started)}.log", *words)
        started.append(one)
        return one

    yield start
    for one in started:
        if one.process.poll() is None:
            one.kill()


@pytest.fixture
def protocol(content, write_protocol):
    """Two units an arm in two blocks, trained for long enough to be met while they run."""
    training = {**content["training"], "epochs": 20}
    return write_protocol(content | {"units_per_arm": 2, "training": training})


def until(condition, driver, seconds=180):
    """Wait until something holds, while the driver runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert driver.process.poll() is None, driver.said()
        assert time.monotonic() < end, driver.said()
        time.sleep(0.02)


def finished(folder):
    return len(list(folder.glob("units/*/outcome.json")))


def running(folder):
    """List the units that have started and not ended."""
    started = {path.parent.name for path in folder.glob("units/*/start.json")}
    return started - {path.parent.name for path in folder.glob("units/*/outcome.json")}


def run_whole(driver, protocol, folder, *words):
    one = driver("run", protocol, "--out", folder, *words)
    assert one.wait() == 0, one.said()


def table_of(folder):
    """Read the units and classes of a whole campaign; check that each unit has one run."""
    from mlflow import MlflowClient

    campaign = load(folder)
    client = MlflowClient(campaign.tracking_uri)
    experiment = client.get_experiment_by_name("tiny")
    found = client.search_runs([experiment.experiment_id], f"tags.`{schema.KIND_TAG}` = 'unit'")
    ids = [run.data.tags["unit_id"] for run in found]
    assert sorted(ids) == sorted(row.unit_id for row in campaign.table)
    record = runs.load(campaign.tracking_uri, "tiny")
    assert set(record.units["status"]) == {schema.FINISHED}
    times = record.units.filter(regex=f"^{schema.SECONDS_PREFIX}").columns
    return record.units.drop(columns=[*OF_THE_RUN, *times]), record.classes


@pytest.fixture(scope="module")
def kept():
    """What this module has made once."""
    return {}


@pytest.fixture
def expected(kept, driver, protocol, tmp_path):
    """Tables of the campaign when its units run one at a time."""
    if not kept:
        run_whole(driver, protocol, tmp_path / "one", "--at-a-time", "1")
        kept["tables"] = table_of(tmp_path / "one")
        assert kept["tables"][0].shape[0] == 8
        assert "standard/att_acc_1" in kept["tables"][0]
    return kept["tables"]


def assert_same(folder, expected):
    for found, wanted in zip(table_of(folder), expected, strict=True):
        pd.testing.assert_frame_equal(found, wanted, check_exact=True)


def test_units_beside_each_other_give_the_same_table(driver, protocol, tmp_path, expected):
    run_whole(driver, protocol, tmp_path / "two", "--at-a-time", "2")
    assert_same(tmp_path / "two", expected)


def test_a_campaign_that_was_killed_goes_on_to_the_same_table(driver, protocol, tmp_path, expected):
    folder = tmp_path / "killed"
    one = driver("run", protocol, "--out", folder, "--at-a-time", "2")
    until(lambda: finished(folder) >= 2, one)
    one.kill()
    before = {
        path: path.stat().st_mtime_ns
        for outcome in folder.glob("units/*/outcome.json")
        for path in outcome.parent.iterdir()
    }
    assert 2 <= finished(folder) < 8
    run_whole(driver, protocol, folder, "--at-a-time", "2")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert_same(folder, expected)


def test_a_campaign_that_was_interrupted_goes_on_to_the_same_table(
    driver, protocol, tmp_path, expected
):
    folder = tmp_path / "interrupted"
    one = driver("run", protocol, "--out", folder, "--at-a-time", "2")
    until(lambda: finished(folder) >= 1 and running(folder), one)
    os.killpg(one.process.pid, signal.SIGINT)  # as Ctrl-C does
    code = one.wait()
    assert "stopping: running units finish their present stage" in one.said()
    assert "Traceback" not in one.said()
    assert 1 <= finished(folder) < 8
    two = driver("resume", "tiny", "--out", folder)
    assert two.wait() == 0, two.said()
    assert_same(folder, expected)
    assert code == 130


def test_a_campaign_that_was_stopped_goes_on_to_the_same_table(
    driver, protocol, tmp_path, expected
):
    folder = tmp_path / "stopped"
    one = driver("run", protocol, "--out", folder, "--at-a-time", "1")
    until(lambda: finished(folder) >= 1 and running(folder), one)
    assert driver("stop", "tiny", "--out", folder).wait() == 0
    assert one.wait() == 1
    assert re.search(r"`atat resume tiny --out \S+` goes on", one.said())
    assert 1 <= finished(folder) < 8
    two = driver("resume", "tiny", "--out", folder)
    assert two.wait() == 0, two.said()
    assert_same(folder, expected)


def test_a_unit_whose_process_was_killed_runs_again_by_itself(driver, protocol, tmp_path, expected):
    folder = tmp_path / "lost"
    one = driver("run", protocol, "--out", folder, "--at-a-time", "1")
    until(lambda: finished(folder) >= 1 and running(folder), one)
    for process in one.family():
        if any("ImplicitFunc" in word for word in process.cmdline()):  # Tune's name for a unit
            os.kill(process.pid, signal.SIGKILL)
    assert one.wait() == 0, one.said()
    assert "was lost and will run again (1 of 2 times)" in one.said()
    assert_same(folder, expected)
    units = runs.load(load(folder).tracking_uri, "tiny").units
    assert sorted(units["times_lost"]) == [*7 * ["0"], "1"]


def test_a_unit_that_cannot_write_waits_and_the_others_finish(driver, protocol, tmp_path, expected):
    folder = tmp_path / "full"
    campaign = enrol(read_protocol(str(protocol)), folder, None)
    unit_id = campaign.table[3].unit_id
    blocked = campaign.unit_folder(unit_id) / "train.pt"
    blocked.mkdir(parents=True)  # what is written there is refused, as on a full disk
    one = driver("run", protocol, "--out", folder)
    assert one.wait() == 1
    assert f"{unit_id} is not done: IsADirectoryError" in one.said()
    assert [row.unit_id for row in campaign.pending()] == [unit_id]
    blocked.rmdir()
    run_whole(driver, protocol, folder)
    assert_same(folder, expected)
