"""Lock a run folder, so that one process runs it at a time."""

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Keep other processes from running the same folder while the block runs.

    The lock is the operating system's, which releases it when the process ends in any way. On a
    file system without locks there is none.

    Raises:
        ValueError: another process holds the lock; the message names it.
    """
    me = f"process {os.getpid()} on {platform.node()}"
    file = os.open(folder / "running", os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.pread(file, 1000, 0).decode(errors="replace") or "another process"
            raise ValueError(
                f"{folder} is being run by {other}; `atat status` shows its progress, `atat stop` "
                "ends it after the present stages"
            ) from None
        except OSError:
            yield
            return
        os.ftruncate(file, 0)
        os.pwrite(file, me.encode(), 0)
        yield
        os.ftruncate(file, 0)
    finally:
        os.close(file)
