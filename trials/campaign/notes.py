"""Notes of a unit: small JSON files in its folder, beside the stage files.

``start`` {order, time}, ``place`` {node, device}, ``lost`` {reasons}, ``failed`` {reason},
``failed-before`` {failures}; in a sweep also ``options``, ``epochs`` and ``stopped`` {reason}.
"""

from pathlib import Path
from typing import Any

from atat_ray.utils.json_files import NUMBER, Damaged, read_signed, write_signed
from atat_ray.utils.messages import tell_once

SHAPES: dict[str, Any] = {
    "start": {"order": int},
    "place": {"node": str, "device": str},
    "lost": {"reasons": [str]},
    "failed": {"reason": str},
    "failed-before": {"failures": [{"reason": str, "reasons": list | None}]},
    "stopped": {"reason": str},
    "options": {str: NUMBER},
    "epochs": {int: NUMBER},
}


def write_note(folder: Path, name: str, content: dict[str, Any]) -> None:
    """Write a note to the folder of a unit."""
    write_signed(note_file(folder, name), content)


def read_note(folder: Path, name: str) -> dict[str, Any]:
    """Read a note from the folder of a unit; empty if there is none or it is damaged.

    The user is told of a damaged note in one line.
    """
    try:
        return read_signed(note_file(folder, name), shape=SHAPES[name])
    except FileNotFoundError:
        return {}
    except Damaged as error:
        tell_once(f"{error}; it counts as missing")
        return {}


def note_file(folder: Path, name: str) -> Path:
    """Return the path of a note."""
    return folder / f"{name}.json"
