"""Write files atomically: a file is complete or absent, also after a loss of power."""

import os
import platform
from pathlib import Path


def beside(path: Path) -> Path:
    """Return a temporary name beside ``path`` that no other process uses."""
    return path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}")


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file under a temporary name and rename it, so that it is never seen incomplete.

    File and folder are written to the disk before this function returns.
    """
    make_folder(path.parent)
    temporary = beside(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, unless they exist, and write their entries to the disk."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Write the entries of a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
