"""Whatever ends Ray or keeps it from working is one line in bounded time, and nothing is lost.

Drivers run in sessions of their own, and only what is of such a session is ever killed.
"""

import os
import signal
import socket
import time
from contextlib import suppress

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.ray]

SOON = 30  # seconds in which a driver must end, on a machine that others use too


@pytest.fixture
def protocol(content, write_protocol):
    """Two units an arm in a block, trained for long enough to be met while they run."""
    training = {**content["training"], "epochs": 20}
    few = {"blocks": {"split-0": {"split": 0}}, "units_per_arm": 2, "training": training}
    return write_protocol(content | few)


def kill(one, part):
    """Kill the processes of a driver's session whose program has this name."""
    found = []
    for process in one.family():
        with suppress(Exception):  # it may have ended
            if process.cmdline()[0].endswith(part):
                found.append(process)
    assert found, f"no {part}"
    for process in found:
        process.kill()


def titles(one):
    """List the titles of the processes of a driver's session; a unit has Tune's name."""
    found = []
    for process in one.family():
        with suppress(Exception):
            found.append(process.cmdline()[0])
    return found


def terminate_all(one):
    for process in one.family():
        with suppress(Exception):
            process.terminate()


def lock_folders(one):
    """Put files where the folders of the units that have not started should be."""
    for number in range(1, 5):
        with suppress(FileExistsError):
            (one.folder / "units" / f"split-0-{number:02}").touch(exist_ok=False)


FAULTS = {
    "the GCS": (lambda one: kill(one, "gcs_server"), 1, "Ray was lost: nothing listens at"),
    "the raylet": (lambda one: kill(one, "raylet"), 1, "Ray was lost: nothing listens at"),
    "everything, politely": (terminate_all, 130, "same command resumes"),
    "the driver, politely": (lambda one: one.process.terminate(), 130, "resumes it"),
    "a folder of a unit": (lock_folders, 2, "cannot use"),
}


def test_a_campaign_that_loses_ray_in_every_way_ends_each_time_with_one_line_and_goes_on(
    driver, protocol, tmp_path, table_of, run_whole
):
    run_whole(protocol, tmp_path / "undisturbed")
    folder = tmp_path / "disturbed"
    for name, (fault, code, line) in FAULTS.items():
        one = driver("run", protocol, folder, "--at-a-time", "1")
        one.until(lambda one=one: " units of 4" in one.said())
        one.until(lambda one=one: any("ImplicitFunc" in title for title in titles(one)))
        begin = time.monotonic()
        fault(one)
        assert one.wait(SOON if code == 1 else 180) == code, (name, one.said())
        print(f"{name}: {time.monotonic() - begin:.1f} s\n{one.said()}", flush=True)
        assert line in one.said().splitlines()[-1], name
        assert "Traceback" not in one.said()
        assert len(one.said().splitlines()) < 12, name
        for path in folder.glob("units/*"):
            if path.is_file():
                path.unlink()
    run_whole(protocol, folder)
    assert table_of(folder) == table_of(tmp_path / "undisturbed")


@pytest.mark.parametrize("seconds", [0.0, 2.0, 6.0])
def test_a_signal_while_ray_starts_ends_with_one_line_and_the_code_of_an_interrupt(
    driver, protocol, tmp_path, seconds
):
    one = driver("run", protocol, tmp_path / "out")
    one.until(lambda: "starting Ray" in one.said())
    time.sleep(seconds)
    one.process.terminate()
    assert one.wait(SOON) == 130, one.said()
    assert "interrupted; finished stages are kept" in one.said() or "resumes it" in one.said()
    assert "Traceback" not in one.said()


def test_memory_that_runs_out_is_a_line_each_time_and_the_campaign_goes_on(
    driver, protocol, tmp_path, monkeypatch, run_whole, table_of
):
    folder = tmp_path / "memory"
    run_whole(protocol, tmp_path / "undisturbed")
    one = driver("run", protocol, folder, "--at-a-time", "1")
    one.until(one.running)  # the assets are built
    one.kill()
    with monkeypatch.context() as patch:
        patch.setenv("RAY_memory_usage_threshold", "0.01")
        one = driver("run", protocol, folder)
        assert one.wait(600) in (1, 2), one.said()
    assert "memory ran out" in one.said()
    assert "Traceback" not in one.said()
    run_whole(protocol, folder)
    assert table_of(folder) == table_of(tmp_path / "undisturbed")


def test_a_server_that_is_not_rays_does_not_hold_a_run_for_ever(
    driver, protocol, tmp_path, monkeypatch
):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{listener.getsockname()[1]}")
        one = driver("run", protocol, tmp_path / "out")
        assert one.wait(180) == 2, one.said()
        assert f"RAY_ADDRESS={os.environ['RAY_ADDRESS']}" in one.said().splitlines()[-1]
        assert "Traceback" not in one.said()


def test_a_ray_of_one_machine_listens_on_the_loopback_interface_alone(driver, protocol, tmp_path):
    one = driver("run", protocol, tmp_path / "out")
    one.until(one.running)
    listening = [
        connection.laddr.ip
        for process in one.family()
        for connection in process.net_connections("inet")
        if connection.status == "LISTEN"
    ]
    assert len(listening) > 3
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    one.process.send_signal(signal.SIGTERM)
    assert one.wait(180) == 130
