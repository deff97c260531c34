"""What a unit was computed on: one file in its folder for each kind of process that worked for it.

A unit that is resumed elsewhere, or that has several workers, has several files. None is ever
overwritten, and none enters a hash.
"""

from pathlib import Path

from atat_ray.utils.device import pick_device
from atat_ray.utils.hashing import specification_hash
from atat_ray.utils.json_files import Damaged, read_signed, write_signed
from atat_ray.utils.messages import tell_once
from atat_ray.utils.processor import describe_processor

PREFIX = "computed-on-"


def describe_process() -> dict[str, str]:
    """Describe what this process computes on: :func:`describe_processor` of its device."""
    return describe_processor(pick_device())


def note_process(folder: Path, described: dict[str, str]) -> None:
    """Note in the folder of a unit what a process that works for it computes on."""
    file = folder / f"{PREFIX}{specification_hash(described)[:12]}.json"
    if not file.exists():
        write_signed(file, described)


def read_processes(folder: Path) -> list[dict[str, str]]:
    """List what the processes that worked for a unit computed on, in an order that is kept.

    The user is told of a damaged file in one line; it counts as missing.
    """
    found = []
    for file in sorted(folder.glob(f"{PREFIX}*.json")):
        try:
            content = read_signed(file)
        except FileNotFoundError:
            continue
        except Damaged as error:
            tell_once(f"{error}; it counts as missing")
            continue
        found.append({name: str(value) for name, value in content.items()})
    return found
