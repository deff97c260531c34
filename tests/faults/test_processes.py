"""A campaign in mid-run of which a process, memory or the disk is taken: the same command goes on.

Each fault meets a campaign of its own at a random moment. The same command is then run until the
campaign is over; its table must be the undisturbed one, and nothing printed is a traceback. Drivers
run in sessions of their own, and only what is of such a session is ever killed.
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import closing, suppress

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.ray]

COMMANDS = 3  # after a fault, until the campaign must be over
LINES = 25  # that a command may print


def members(one, part):
    """List the processes of a driver's session whose command line contains a text."""
    found = []
    for process in one.family():
        with suppress(Exception):  # it may have ended
            if part in " ".join(process.cmdline()):
                found.append(process)
    return found


def kill(part):
    """Return a function that kills the processes of a session with this in their command line."""

    def do(one):
        found = members(one, part)
        assert found, f"no {part}"
        for process in found:
            with suppress(Exception):
                process.kill()

    return do


def kill_driver(one):
    os.kill(one.process.pid, signal.SIGKILL)
    one.process.wait()


def terminate(one):
    one.process.terminate()


def suspend(one):
    """Stop every process of a session for a while, as a laptop does that is closed."""
    found = one.family()
    for process in found:
        with suppress(Exception):
            process.suspend()
    time.sleep(8)
    for process in found:
        with suppress(Exception):
            process.resume()


def hold_database(one):
    """Hold the database of a campaign as another program does."""
    with closing(sqlite3.connect(one.folder / "mlflow.db", timeout=60)) as connection:
        connection.execute("begin exclusive")
        time.sleep(8)


def age(years):
    """Return a function that sets the times of all files in a folder, as a wrong clock does."""

    def do(one):
        when = time.time() + years * 365 * 86400
        for path in one.folder.rglob("*"):
            with suppress(FileNotFoundError):
                os.utime(path, (when, when))

    return do


def started(one):
    return "starting Ray" in one.said()


def builds_assets(one):
    return members(one, "ImplicitFunc") and not one.running() and not one.finished()


def runs_a_unit(one):
    return one.running() and members(one, "ImplicitFunc")


FAULTS = {
    "driver killed while Ray starts": (started, 5, kill_driver),
    "driver killed while assets are built": (builds_assets, 2, kill_driver),
    "driver killed in a unit": (runs_a_unit, 3, kill_driver),
    "power cut while Ray starts": (started, 5, lambda one: one.kill()),
    "power cut in a unit": (runs_a_unit, 3, lambda one: one.kill()),
    "asset maker killed": (builds_assets, 1, kill("ImplicitFunc")),
    "worker killed": (runs_a_unit, 1, kill("ImplicitFunc")),
    "worker killed later": (lambda one: one.finished() and runs_a_unit(one), 1, kill("ray::")),
    "raylet killed while assets are built": (builds_assets, 2, kill("raylet/raylet")),
    "raylet killed in a unit": (runs_a_unit, 3, kill("raylet/raylet")),
    "GCS killed while assets are built": (builds_assets, 2, kill("gcs_server")),
    "GCS killed in a unit": (runs_a_unit, 3, kill("gcs_server")),
    "agent of the raylet killed": (runs_a_unit, 1, kill("runtime_env")),
    "driver terminated": (runs_a_unit, 3, terminate),
    "machine suspended": (runs_a_unit, 3, suspend),
    "database held by another program": (runs_a_unit, 1, hold_database),
    "clock ten years ahead": (runs_a_unit, 3, age(10)),
    "clock twenty years back": (runs_a_unit, 3, age(-20)),
}


def go_on(driver, protocol, folder, one):
    """Wait for a disturbed command, and run it until the campaign is over; count the commands."""
    count = 1
    while one.wait() != 0:
        assert count <= COMMANDS, one.said()
        check_lines(one)
        one = driver("run", protocol, folder)
        count += 1
    check_lines(one)
    return count


def check_lines(one):
    said = one.said()
    assert "Traceback" not in said, said
    assert "unexpected " not in said, said
    assert len(said.splitlines()) < LINES, said


@pytest.mark.parametrize("fault", FAULTS)
def test_a_campaign_that_is_disturbed_ends_with_the_undisturbed_table(
    fault, driver, long, tmp_path, whole, end_of, draws, note_fault
):
    _, expected = whole(long)
    moment, most, do = FAULTS[fault]
    folder = tmp_path / "long"
    one = driver("run", long, folder)
    one.until(lambda: moment(one))
    wait = draws.uniform(0, most)
    time.sleep(wait)
    met = f"{wait:.1f} s later, {len(one.finished())} finished"
    do(one)
    count = go_on(driver, long, folder, one)
    last = one.said().strip().splitlines()[-1]
    assert end_of(folder) == expected
    note_fault(fault, met, last, f"undisturbed table after {count} command{'s' * (count > 1)}")


def test_memory_that_runs_out_is_one_line_and_nothing_is_lost(
    driver, long, tmp_path, whole, end_of, monkeypatch, note_fault
):
    _, expected = whole(long)
    folder = tmp_path / "long"
    with monkeypatch.context() as patch:
        patch.setenv("RAY_memory_usage_threshold", "0.01")
        one = driver("run", long, folder)
        assert one.wait() in (1, 2), one.said()
    assert "memory ran out" in one.said()
    count = go_on(driver, long, folder, one)
    assert end_of(folder) == expected
    note_fault("memory ran out", "from the start", one.said().strip().splitlines()[-1],
               f"undisturbed table after {count} command{'s' * (count > 1)}")  # fmt: skip


def mount(*words):
    return subprocess.run(["mount", *map(str, words)], capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path):
    """Mount a small disk in memory, which takes root; return its folder."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or not mount("-t", "tmpfs", "-o", "size=320m", "tmpfs", folder):
        pytest.skip("no disk can be mounted here: it takes root and the right to mount")
    yield folder
    while subprocess.run(["umount", "-l", folder], capture_output=True).returncode == 0:
        pass


@pytest.mark.parametrize("least", [0, 1, 3, 5])
def test_a_full_disk_is_one_line_and_nothing_is_lost(
    least, driver, long, disk, whole, end_of, draws, note_fault
):
    _, expected = whole(long)
    room = draws.uniform(least, least + 1)  # MiB
    folder = disk / "long"
    one = driver("run", long, folder)
    one.until(lambda: started(one))  # more room is needed to begin
    with (disk / "filler").open("wb") as filler:
        size = shutil.disk_usage(disk).free - int(room * 2**20)
        os.posix_fallocate(filler.fileno(), 0, size)
    assert one.wait() in (1, 2), one.said()
    check_lines(one)
    line = one.said().strip().splitlines()[-1]
    assert "space" in one.said(), one.said()
    (disk / "filler").unlink()
    count = go_on(driver, long, folder, driver("run", long, folder))
    assert end_of(folder) == expected
    note_fault(
        "full disk",
        f"{room:.1f} MiB after Ray starts",
        line,
        f"undisturbed table after {count} more",
    )


def test_a_disk_that_becomes_read_only_is_one_line_and_nothing_is_lost(
    driver, long, disk, whole, end_of, draws, note_fault
):
    _, expected = whole(long)
    folder = disk / "long"
    one = driver("run", long, folder)
    one.until(lambda: runs_a_unit(one))
    time.sleep(draws.uniform(0, 2))
    met = f"{len(one.finished())} finished"
    assert mount("--bind", disk, disk)
    assert mount("-o", "remount,ro,bind", disk)
    assert one.wait() in (1, 2), one.said()
    check_lines(one)
    line = one.said().strip().splitlines()[-1]
    assert subprocess.run(["umount", "-l", disk]).returncode == 0
    count = go_on(driver, long, folder, driver("run", long, folder))
    assert end_of(folder) == expected
    note_fault("read-only disk", met, line, f"undisturbed table after {count} more")
