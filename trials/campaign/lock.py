"""Lock of a run folder: one process runs it at a time."""

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder during a ``with`` block.

    The operating system releases the lock when the process ends for any reason. On a file system
    without locks the block runs without one.

    Raises:
        ValueError: another process holds the lock; the message names it.
    """
    owner = f"process {os.getpid()} on {platform.node()}"
    file = os.open(folder / "running", os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.pread(file, 1000, 0).decode(errors="replace") or "another process"
            raise ValueError(
                f"{folder} is being run by {other}; `atat status` shows its progress, `atat stop` "
                "stops it after the current stages"
            ) from None
        except OSError:
            yield
            return
        os.ftruncate(file, 0)
        os.pwrite(file, owner.encode(), 0)
        yield
        os.ftruncate(file, 0)
    finally:
        os.close(file)
