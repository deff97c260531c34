"""However a campaign is run, stopped, killed or resumed, its table is the same bit for bit.

Drivers run in sessions of their own, and only what is of such a session is ever killed.
"""

import os
import re
import signal

import pytest

from analysis.record import reader as runs
from trials.campaign.campaign import Campaign
from trials.config.load import read_protocol

pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture
def protocol(content, write_protocol):
    """Two units an arm in two blocks, trained for long enough to be met while they run."""
    training = {**content["training"], "epochs": 20}
    return write_protocol(content | {"units_per_arm": 2, "training": training})


@pytest.fixture(scope="module")
def kept():
    """What this module has made once."""
    return {}


@pytest.fixture
def expected(kept, run_whole, protocol, tmp_path, table_of):
    """Tables of the campaign when its units run one at a time."""
    if not kept:
        run_whole(protocol, tmp_path / "one", "--at-a-time", "1")
        kept["tables"] = table_of(tmp_path / "one")
        assert "standard/att_acc_1" in kept["tables"]
    return kept["tables"]


def test_units_beside_each_other_give_the_same_table(
    protocol, tmp_path, expected, table_of, run_whole
):
    run_whole(protocol, tmp_path / "two", "--at-a-time", "2")
    assert table_of(tmp_path / "two") == expected


def test_a_campaign_that_was_killed_goes_on_to_the_same_table(
    driver, protocol, tmp_path, expected, table_of, run_whole
):
    folder = tmp_path / "killed"
    one = driver("run", protocol, folder, "--at-a-time", "2")
    one.until(lambda: len(one.finished()) >= 2)
    one.kill()
    before = {
        path: path.stat().st_mtime_ns
        for outcome in folder.glob("units/*/outcome.json")
        for path in outcome.parent.iterdir()
    }
    assert 2 <= len(one.finished()) < 8
    run_whole(protocol, folder, "--at-a-time", "2")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert table_of(folder) == expected


def test_a_campaign_that_was_interrupted_goes_on_to_the_same_table(
    driver, protocol, tmp_path, expected, table_of
):
    folder = tmp_path / "interrupted"
    one = driver("run", protocol, folder, "--at-a-time", "2")
    one.until(lambda: len(one.finished()) >= 1 and one.running())
    os.killpg(one.process.pid, signal.SIGINT)  # as Ctrl-C does
    code = one.wait()
    assert "stopping after the current stages; interrupt again" in one.said()
    assert "Traceback" not in one.said()
    assert 1 <= len(one.finished()) < 8
    two = driver("resume", "tiny", folder)
    assert two.wait() == 0, two.said()
    assert table_of(folder) == expected
    assert code == 130


def test_a_campaign_whose_every_process_is_terminated_ends_soon_and_goes_on(
    driver, protocol, tmp_path, expected, table_of
):
    """As ``scancel`` and systemd end a job."""
    folder = tmp_path / "terminated"
    one = driver("run", protocol, folder, "--at-a-time", "2")
    one.until(lambda: len(one.finished()) >= 1 and one.running())
    for process in one.family():
        process.terminate()
    assert one.wait(30) == 130, one.said()
    assert one.said().endswith("finished stages are kept, the same command resumes\n")
    two = driver("resume", "tiny", folder)
    assert two.wait() == 0, two.said()
    assert table_of(folder) == expected


def test_a_campaign_that_was_stopped_goes_on_to_the_same_table(
    driver, protocol, tmp_path, expected, table_of
):
    folder = tmp_path / "stopped"
    one = driver("run", protocol, folder, "--at-a-time", "1")
    one.until(lambda: len(one.finished()) >= 1 and one.running())
    assert driver("stop", "tiny", folder).wait() == 0
    assert one.wait() == 130
    assert re.search(r"`atat resume tiny --out \S+` resumes it", one.said())
    assert 1 <= len(one.finished()) < 8
    two = driver("resume", "tiny", folder)
    assert two.wait() == 0, two.said()
    assert table_of(folder) == expected


def test_a_unit_whose_process_was_killed_runs_again_by_itself(
    driver, protocol, tmp_path, expected, table_of
):
    folder = tmp_path / "lost"
    one = driver("run", protocol, folder, "--at-a-time", "1")
    one.until(lambda: len(one.finished()) >= 1 and one.running())
    for process in one.family():
        if any("ImplicitFunc" in word for word in process.cmdline()):  # Tune's name for a unit
            os.kill(process.pid, signal.SIGKILL)
    assert one.wait() == 0, one.said()
    assert "was lost and will run again (1 of 2 times)" in one.said()
    assert table_of(folder) == expected
    units = runs.load_record(Campaign.load(folder).tracking_uri, "tiny").units
    assert sorted(units["times_lost"]) == [*7 * ["0"], "1"]


def test_a_unit_that_cannot_write_waits_and_the_others_finish(
    driver, protocol, tmp_path, expected, table_of, run_whole
):
    folder = tmp_path / "full"
    campaign = Campaign.create_or_resume(read_protocol(str(protocol)), folder, None)
    unit_id = campaign.table[3].unit_id
    blocked = campaign.unit_folder(unit_id) / "train.pt"
    blocked.mkdir(parents=True)  # what is written there is refused, as on a full disk
    one = driver("run", protocol, folder)
    assert one.wait() == 1
    assert f"{unit_id} has not ended: cannot use" in one.said()
    assert [row.unit_id for row in campaign.pending()] == [unit_id]
    blocked.rmdir()
    run_whole(protocol, folder)
    assert table_of(folder) == expected


def test_units_of_two_workers_whose_part_is_killed_give_the_same_table(
    driver, content, write_protocol, tmp_path, table_of, run_whole
):
    """A unit trains on both CPUs, then attacks in parts on both; one part's process is killed."""
    standard = content["inversions"]["standard"]
    standard["ppa"] |= {"batch_classes": 1, "steps": 40}
    few = {"blocks": {"split-0": {"split": 0}}, "units_per_arm": 1}
    shared = write_protocol(content | few | {"workers": 2, "inversions": {"standard": standard}})
    run_whole(shared, tmp_path / "whole")
    folder = tmp_path / "killed"
    one = driver("run", shared, folder)
    one.until(lambda: any(folder.glob("units/*/invert-standard-parts/*.pt")))
    parts = [p for p in one.family() if any("ray::run_job" in word for word in p.cmdline())]
    assert parts, "parts run in processes of Ray"
    os.kill(parts[0].pid, signal.SIGKILL)
    assert one.wait() == 0, one.said()
    assert table_of(folder) == table_of(tmp_path / "whole")
