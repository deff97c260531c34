"""Starting Ray and joining a cluster: bounded, on loopback, with an address that is checked."""

import itertools
import os
import signal
import socket
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import torch

from trials.execution import ray_cluster, watch
from trials.execution.display import Lines
from trials.execution.resources import cluster_address
from trials.execution.signals import Signals


class Display(Lines):
    """Keeps lines, and how the process would have ended."""

    def __init__(self):
        super().__init__()
        self.lines, self.ended = [], []
        self.is_over = threading.Event()

    def say(self, line):
        self.lines.append(line)

    def end_process(self, line, code):
        self.ended.append((line, code))
        self.is_over.set()


@pytest.fixture
def display():
    return Display()


@pytest.fixture
def begun(monkeypatch):
    """Keep how Ray would have been started, and the environment at that time."""
    found = SimpleNamespace(calls=[], environment={}, errors=[])

    def initialise(address, **options):
        found.calls.append(address)
        found.environment = dict(os.environ)
        if found.errors:
            raise found.errors.pop(0)

    monkeypatch.setattr(ray_cluster, "initialise", initialise)
    monkeypatch.setattr(ray_cluster, "children", set)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    for name in [*ray_cluster.LOOPBACK, "RAY_AUTH_MODE", *ray_cluster.TOKEN_VARIABLES]:
        monkeypatch.setenv(name, "")  # so that it is restored afterwards
        monkeypatch.delenv(name)
    return found


def test_a_ray_of_this_machine_is_on_loopback_and_has_a_token_in_no_file(
    begun, display, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    tokens = []
    for _ in range(2):
        ray_cluster.start_ray(display)
        assert begun.environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
        assert begun.environment["RAY_AUTH_MODE"] == "token"
        tokens.append(begun.environment["RAY_AUTH_TOKEN"])
        monkeypatch.delenv("RAY_AUTH_TOKEN")
    assert len(set(tokens)) == 2
    assert {len(token) for token in tokens} == {64}
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_is_joined_with_its_own_token_and_interfaces(begun, display, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    ray_cluster.start_ray(display)
    assert begun.calls == ["auto"]
    assert "RAY_AUTH_TOKEN" not in begun.environment
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in begun.environment
    assert "RAY_ADDRESS=auto, within 60 s" in display.lines[0]


def test_a_token_that_others_can_read_is_protected(begun, display, tmp_path, monkeypatch):
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text(64 * "a")
    token.chmod(0o644)
    monkeypatch.setenv("HOME", str(tmp_path))
    ray_cluster.start_ray(display)
    assert token.stat().st_mode & 0o777 == 0o600


def test_a_ray_that_starts_too_late_is_tried_again_and_other_errors_are_one_line(begun, display):
    begun.errors = [Exception("The current node timed out during startup. This could be ...")]
    ray_cluster.start_ray(display)
    assert begun.calls == ["local", "local"]
    assert "timed out during startup" in display.lines[0]
    begun.errors = [PermissionError(13, "Permission denied", "/x/.ray")]
    with pytest.raises(ValueError, match=r"Ray does not start on this machine: .*/x/.ray.*permis"):
        ray_cluster.start_ray(display)


def test_an_error_in_joining_names_the_address_and_the_variable(begun, display, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    begun.errors = [ConnectionError("Could not find any running Ray instance")]
    with pytest.raises(ValueError, match="RAY_ADDRESS=auto: Could not find any .*; start the clus"):
        ray_cluster.start_ray(display)


@pytest.mark.parametrize(
    "address", ["foo", "127.0.0.1:", "127.0.0.1:x", "h:99999", "ray://127.0.0.1:1", "http://a:1"]
)
def test_an_address_that_is_none_is_refused_at_once(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ValueError, match=r"RAY_ADDRESS must be HOST:PORT or auto, got .*unset it"):
        ray_cluster.check_cluster()


def test_an_address_where_nobody_listens_is_refused_in_bounded_time(monkeypatch):
    monkeypatch.setattr(ray_cluster, "LISTEN_SECONDS", 0.0)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        ray_cluster.check_cluster()
    with pytest.raises(ValueError, match=f"nothing listens at RAY_ADDRESS={address}; start the"):
        ray_cluster.check_cluster()


@pytest.mark.parametrize("address", ["", " ", "local"])
def test_no_address_and_local_mean_this_machine(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert cluster_address() is None
    ray_cluster.check_cluster()


def test_what_takes_too_long_is_shown_and_ends_the_process_with_one_line(display):
    with watch.time_limit(0.3, display, late="too late", code=2, progress="slow", every=0.1):
        assert display.is_over.wait(30)
    assert display.ended == [("too late", 2)]
    assert set(display.lines) == {"slow"}


def test_what_is_done_in_time_ends_nothing(display):
    with watch.time_limit(60, display, late="too late", code=2):
        pass
    assert (display.ended, display.lines) == ([], [])


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(watch, "INTERVAL", 0.01)
    monkeypatch.setattr(watch, "PATIENCE", {False: 0.1, True: 0.1})
    monkeypatch.setattr(watch, "AFTER_SIGNAL", 0.0)


@pytest.mark.parametrize("signalled", [False, True])
def test_a_driver_whose_ray_is_lost_ends_with_one_line(display, impatient, signalled):
    signals = Signals()
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        address = listener.getsockname()
        watching = watch.end_with_ray([address], signals, display, is_cluster=False)
        watching.__enter__()
        assert not display.is_over.wait(0.3)
        if signalled:
            signals.first.set()
    assert display.is_over.wait(30)
    watching.__exit__(None, None, None)
    ((line, code),) = display.ended
    assert code == (130 if signalled else 1)
    assert line.endswith("finished stages are kept, the same command resumes")
    assert ("the signal ended Ray too" if signalled else f"127.0.0.1:{address[1]}") in line


def test_a_driver_watches_the_head_and_the_raylet_of_its_own_node():
    nodes = [
        {"NodeID": "a", "NodeManagerAddress": "10.0.0.1", "NodeManagerPort": 5},
        {"NodeID": "b", "NodeManagerAddress": "10.0.0.2", "NodeManagerPort": 6},
    ]
    context = SimpleNamespace(gcs_address="[::1]:7", get_node_id=lambda: "b")
    ray = SimpleNamespace(nodes=lambda: nodes, get_runtime_context=lambda: context)
    assert watch.servers_of(ray) == [("::1", 7), ("10.0.0.2", 6)]


def test_ending_the_process_prints_one_line_and_runs_nothing_else():
    import subprocess

    code = (
        "from trials.execution.display import Lines\n"
        "try: Lines().end_process('lost', 1)\n"
        "finally: print('never')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "atat: lost\n")


def test_starting_ray_keeps_the_handler_of_sigterm_and_prints_no_logs_of_its_servers(
    monkeypatch, capsys
):
    import ray
    from ray._private import worker

    def init(**options):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as Ray does
        worker.print_to_stdstream({"lines": ["Raylet is terminated"], "pid": "raylet"})

    monkeypatch.setattr(worker, "print_to_stdstream", print)
    monkeypatch.setattr(ray, "init", init)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        ray_cluster.initialise("local")
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("has", "restricted"), [("AVX512", True), ("AVX2", True), ("ZVECTOR", False)]
)
def test_every_node_is_told_one_instruction_set_that_it_has(has, restricted, monkeypatch):
    import ray

    told = {}
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: has)
    monkeypatch.setattr(ray, "init", lambda **options: told.update(options["runtime_env"]))
    for name in ray_cluster.KERNELS:
        monkeypatch.delenv(name, raising=False)
    ray_cluster.initialise("10.0.0.1:6379")
    assert told["env_vars"] == (ray_cluster.KERNELS if restricted else {})


def test_an_instruction_set_that_the_user_has_set_stays(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    assert ray_cluster.kernels()["MKL_CBWR"] == "COMPATIBLE"


def test_a_driver_that_stood_still_while_ray_answered_goes_on(monkeypatch):
    clock = itertools.count(step=1000.0)  # seconds between any two looks at the clock
    looks = threading.Semaphore(0)

    def listens(address):
        looks.release()
        return True

    monkeypatch.setattr(watch, "is_listening", listens)
    monkeypatch.setattr(watch, "INTERVAL", 0.001)
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    display = Display()
    with watch.end_with_ray([("127.0.0.1", 1)], Signals(), display, is_cluster=False):
        assert all(looks.acquire(timeout=10) for _ in range(3))
    assert display.ended == []
