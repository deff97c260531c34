"""``atat`` in a process of its own, which a test may disturb."""

import importlib
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

PATIENCE = 900  # seconds: a busy machine may take ten times as long as one that is left alone


class Driver:
    """``atat`` in a session of its own, at work on the campaign in ``folder``."""

    def __init__(self, log, folder, *words):
        self.log, self.folder = log, folder
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trials.cli", *map(str, words), "--out", str(folder)],
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def wait(self, seconds=PATIENCE):
        return self.process.wait(timeout=seconds)

    def said(self):
        return self.log.read_text()

    def finished(self):
        """List the units that have an outcome."""
        return {path.parent.name for path in self.folder.glob("units/*/outcome.json")}

    def running(self):
        """List the units that have started and not ended."""
        started = {path.parent.name for path in self.folder.glob("units/*/start.json")}
        return started - self.finished()

    def until(self, condition, seconds=PATIENCE):
        """Wait until something holds, while the driver runs."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.02)

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
