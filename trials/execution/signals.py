"""Signals to the driver: the first asks units to stop, and one that ended Ray ends it too."""

import _thread
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MISSES = 3  # times that Ray's server does not answer until it is taken for dead


@contextmanager
def stop_on_signals(stop: Path, echo: Callable[[str], None]) -> Iterator[threading.Event]:
    """Turn the first SIGINT or SIGTERM into the stop file, the second into KeyboardInterrupt.

    The event that it gives is set by the first. Python runs a handler only once the main thread
    returns from Ray, so a thread hears of signals as they come.
    """
    signalled, at_once = threading.Event(), threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield signalled  # signals are the main thread's
        return
    heard, written = socket.socketpair()

    def listen() -> None:
        while heard.recv(1):
            if stop.exists():
                at_once.set()
                _thread.interrupt_main()  # calls the handler, if Ray is still waiting in it
                return
            stop.write_text("interrupted")  # `atat stop` leaves it empty
            signalled.set()
            echo("stopping: running units finish their present stage; once more to stop at once")

    def handle(number: int, frame: Any) -> None:
        if at_once.is_set():
            raise KeyboardInterrupt

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    written.setblocking(False)
    told = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signalled
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(told)
        written.close()
        listener.join()
        heard.close()


@contextmanager
def end_with_ray(
    signalled: threading.Event, address: tuple[str, int], echo: Callable[[str], None]
) -> Iterator[None]:
    """End this process soon after a signal that ended Ray too.

    ``scancel`` and systemd signal every process of a job. Ray's own client would wait for its
    server for a minute, and then end this process with words about something else.
    """
    over = threading.Event()

    def watch() -> None:
        misses = 0
        while misses < MISSES and not over.wait(0.2):
            if signalled.is_set():
                misses = 0 if answers(address) else misses + 1
        if misses == MISSES:
            echo("the signal ended Ray too; what was done is kept, the same command goes on")
            os._exit(130)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def answers(address: tuple[str, int]) -> bool:
    """Tell whether something listens at an address."""
    try:
        socket.create_connection(address, timeout=5).close()
    except OSError:
        return False
    return True
