"""Handle signals to the driver: stop after the current stages, then at once, or with Ray."""

import _thread
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MISSES = 3  # failed connections after which Ray's server counts as dead


@contextmanager
def stop_on_signals(stop: Path, echo: Callable[[str], None]) -> Iterator[threading.Event]:
    """Write the stop file on the first SIGINT or SIGTERM, raise KeyboardInterrupt on the second.

    Python runs a signal handler only when the main thread returns from Ray. A thread therefore
    reads the signals from the wake-up descriptor as they arrive.

    Args:
        stop: path of the stop file.
        echo: called with one line for the user.

    Yields:
        An event that the first signal sets.
    """
    signalled, at_once = threading.Event(), threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield signalled  # only the main thread may set signal handlers
        return
    receiver, sender = socket.socketpair()

    def listen() -> None:
        while receiver.recv(1):
            if stop.exists():
                at_once.set()
                _thread.interrupt_main()  # runs the handler if the main thread waits in Ray
                return
            stop.write_text("interrupted")  # `atat stop` leaves the file empty
            signalled.set()
            echo("stopping after the current stages; interrupt again to stop at once")

    def handle(number: int, frame: Any) -> None:
        if at_once.is_set():
            raise KeyboardInterrupt

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    sender.setblocking(False)
    try:
        with signal_handlers(handle, sender.fileno()):
            yield signalled
    finally:
        sender.close()
        listener.join()
        receiver.close()


@contextmanager
def signal_handlers(handle: Callable[[int, Any], None], wakeup_fd: int) -> Iterator[None]:
    """Set the handler of SIGINT and SIGTERM and the wake-up descriptor; restore them afterwards."""
    previous_fd = signal.set_wakeup_fd(wakeup_fd, warn_on_full_buffer=False)
    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous_fd)


@contextmanager
def end_with_ray(
    signalled: threading.Event, address: tuple[str, int], echo: Callable[[str], None]
) -> Iterator[None]:
    """End this process soon after a signal that also ended Ray.

    ``scancel`` and systemd signal every process of a job. Ray's client would wait for its server
    for a minute and then end this process with an unrelated message.

    Args:
        signalled: event that the first signal sets.
        address: host and port of Ray's server.
        echo: called with one line for the user.
    """
    done = threading.Event()

    def watch() -> None:
        misses = 0
        while misses < MISSES and not done.wait(0.2):
            if signalled.is_set():
                misses = 0 if is_listening(address) else misses + 1
        if misses == MISSES:
            echo("the signal ended Ray too; finished stages are kept, the same command resumes")
            os._exit(130)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def is_listening(address: tuple[str, int]) -> bool:
    """Tell whether a server listens at an address."""
    try:
        socket.create_connection(address, timeout=5).close()
    except OSError:
        return False
    return True
