"""Handle signals to the driver: end at once before units run, later stop after their stages."""

import _thread
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trials.execution.classify import RESUME_ADVICE
from trials.execution.display import Lines
from trials.execution.exit_codes import INTERRUPTED

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED_LINE = f"interrupted; {RESUME_ADVICE}"
END_SECONDS = 10.0  # after the second signal, until this process is ended whatever it waits for


class Signals:
    """What arrived so far.

    Attributes:
        units_run: set it while units run; the first signal then lets them end their stage.
        first: set by the first signal.
        second: set by the signal that ends everything.
    """

    def __init__(self) -> None:
        self.units_run = threading.Event()
        self.first = threading.Event()
        self.second = threading.Event()


@contextmanager
def stop_on_signals(stop: Path, display: Lines) -> Iterator[Signals]:
    """Handle SIGINT, SIGTERM and SIGHUP during a run.

    Before units run, a signal ends this process. While they run, the first writes the stop file and
    the second raises KeyboardInterrupt. An exception after a signal is taken as its consequence.

    Python runs a signal handler only when the main thread returns from Ray. A thread therefore
    reads the signals from the wake-up descriptor as they arrive.

    Args:
        stop: path of the stop file.
        display: prints lines.
    """
    signals, over = Signals(), threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield signals  # only the main thread may set signal handlers
        return
    receiver, sender = socket.socketpair()

    def listen() -> None:
        while number := receiver.recv(1):
            if number[0] not in SIGNALS:
                continue
            if not signals.units_run.is_set():
                display.end_process(INTERRUPTED_LINE, INTERRUPTED)
            if signals.first.is_set() or stop.exists():
                signals.second.set()
                _thread.interrupt_main()  # runs the handler if the main thread waits in Ray
                if not over.wait(END_SECONDS):
                    display.end_process(INTERRUPTED_LINE, INTERRUPTED)
                return
            ask_to_stop(stop, display)
            signals.first.set()

    def handle(number: int, frame: Any) -> None:
        if signals.second.is_set():
            raise KeyboardInterrupt

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    sender.setblocking(False)
    try:
        with signal_handlers(handle, sender.fileno()):
            yield signals
    except Exception as error:
        if signals.first.is_set():
            raise KeyboardInterrupt from error  # the signal ended Ray too
        raise
    finally:
        over.set()
        sender.close()
        listener.join()
        receiver.close()


def ask_to_stop(stop: Path, display: Lines) -> None:
    """Write the stop file; where that fails, a second signal still ends everything."""
    try:
        stop.write_text("interrupted")  # `atat stop` leaves the file empty
    except OSError as error:
        display.say(f"units cannot be asked to stop ({error}); interrupt again to stop at once")
        return
    display.say("stopping after the current stages; interrupt again to stop at once")


@contextmanager
def signal_handlers(handle: Callable[[int, Any], None], wakeup_fd: int) -> Iterator[None]:
    """Set the handler of the signals and the wake-up descriptor; restore them afterwards.

    A signal that is ignored, as by ``nohup``, stays ignored.
    """
    previous_fd = signal.set_wakeup_fd(wakeup_fd, warn_on_full_buffer=False)
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, handle) for number in heard}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous_fd)


@contextmanager
def signals_as_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does, during a command."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    previous = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
