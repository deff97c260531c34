"""Lock a run folder, so that one process runs it at a time."""

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep every other process from running what is in a folder, until this one ends.

    The lock is the system's, so that it goes with its process, however that ends; a file system
    that has no locks is gone on without.

    Raises:
        ValueError: another process runs it, which is named.
    """
    me = f"process {os.getpid()} on {platform.node()}"
    file = os.open(folder / "running", os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.pread(file, 1000, 0).decode(errors="replace") or "another process"
            raise ValueError(
                f"{folder} is being run by {other}; `atat status` shows how far it is, `atat stop` "
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
