"""Write a file whole or not at all."""

import os
import platform
from pathlib import Path


def beside(path: Path) -> Path:
    """Name a file or folder to write before it becomes ``path``, which no other process writes."""
    return path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}")


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file under a temporary name and rename it, so that nobody sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path)
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
