"""Watch Ray from a thread, and end this process with one line when Ray does not answer.

Ray's client waits for a lost server for a minute and more, outside of Python, and then ends the
process with pages of text.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from trials.execution.classify import RESUME_ADVICE
from trials.execution.display import Lines
from trials.execution.exit_codes import INCOMPLETE, INTERRUPTED
from trials.execution.signals import Signals

Address = tuple[str, int]

INTERVAL = 0.5  # seconds between two looks at Ray's servers
PATIENCE = {False: 2.0, True: 30.0}  # seconds without a server: on this machine, in a cluster
AFTER_SIGNAL = 1.0  # seconds without a server after a signal, which may have ended Ray too


@contextmanager
def time_limit(
    seconds: float,
    display: Lines,
    *,
    late: str,
    code: int,
    progress: str = "",
    every: float = 30.0,
) -> Iterator[None]:
    """End this process if a ``with`` block takes too long.

    Args:
        seconds: that the block may take.
        display: prints lines.
        late: last line of the process.
        code: its exit code.
        progress: line that is printed while the block takes long.
        every: seconds between two such lines.
    """
    done, end = threading.Event(), time.monotonic() + seconds

    def watch() -> None:
        while not done.wait(max(0.0, min(every, end - time.monotonic()))):
            if time.monotonic() >= end:
                display.end_process(late, code)
                return
            if progress:
                display.say(progress)

    with watching(watch, done):
        yield


@contextmanager
def watching(watch: Callable[[], None], done: threading.Event) -> Iterator[None]:
    """Run a function in a thread beside a ``with`` block, whose end sets ``done``."""
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def servers_of(ray: Any) -> list[Address]:
    """List the servers that a driver needs: the head's GCS and the raylet of its own node."""
    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    own = [node for node in ray.nodes() if node.get("NodeID") == context.get_node_id()]
    raylets = [(node["NodeManagerAddress"], int(node["NodeManagerPort"])) for node in own]
    return [(host.strip("[]"), int(port)), *raylets]


@contextmanager
def end_with_ray(
    servers: Sequence[Address], signals: Signals, display: Lines, *, is_cluster: bool
) -> Iterator[None]:
    """End this process soon after Ray was lost.

    ``scancel`` and systemd signal every process of a job, so that a signal may end Ray too.

    Args:
        servers: addresses of Ray's servers.
        signals: what was sent to this process.
        display: prints lines.
        is_cluster: whether the servers may be restarted by others, and may answer late.
    """
    done = threading.Event()

    def watch() -> None:
        answered = time.monotonic()
        while not done.wait(INTERVAL):
            lost = [address for address in servers if not is_listening(address)]
            if not lost:
                answered = time.monotonic()
                continue  # this process may stand still for long on a busy machine
            missing = time.monotonic() - answered
            if signals.first.is_set() and missing > AFTER_SIGNAL:
                line = f"the signal ended Ray too; {RESUME_ADVICE}"
                display.end_process(line, INTERRUPTED)
                return
            if missing > PATIENCE[is_cluster]:
                places = " and ".join(f"{host}:{port}" for host, port in lost)
                line = f"Ray was lost: nothing listens at {places}; {RESUME_ADVICE}"
                display.end_process(line, INCOMPLETE)
                return

    with watching(watch, done):
        yield


def is_listening(address: Address) -> bool:
    """Tell whether a server listens at an address."""
    try:
        socket.create_connection(address, timeout=5).close()
    except OSError:
        return False
    return True
