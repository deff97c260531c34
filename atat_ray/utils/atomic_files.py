"""Write files atomically: a file is complete or absent."""

import os
import platform
from pathlib import Path


def beside(path: Path) -> Path:
    """Return a temporary name beside ``path`` that no other process uses."""
    return path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}")


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file under a temporary name and rename it, so that it is never seen incomplete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path)
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
