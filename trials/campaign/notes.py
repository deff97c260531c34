"""Notes of a unit: small JSON files in its folder, beside the stage files.

``start`` {order, time}, ``place`` {node, device}, ``lost`` {reasons}, ``failed`` {reason},
``failed-before`` {failures}; in a sweep also ``options``, ``epochs`` and ``stopped`` {reason}.
"""

import json
from pathlib import Path
from typing import Any

from atat_ray.utils.atomic_files import write_whole


def write_note(folder: Path, name: str, content: dict[str, Any]) -> None:
    """Write a note to the folder of a unit."""
    write_whole(folder / f"{name}.json", json.dumps(content).encode())


def read_note(folder: Path, name: str) -> dict[str, Any]:
    """Read a note from the folder of a unit; empty if there is none or it is damaged."""
    try:
        content = json.loads((folder / f"{name}.json").read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
