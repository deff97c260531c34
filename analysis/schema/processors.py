"""Hardware and versions that units were computed on: their tags, and differences of units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

# Name of each tag, and what its values are in a sentence.
PROCESSOR_TAGS = {
    "processor": "processors",
    "instruction_set": "instruction sets",
    "threads": "numbers of threads",
    "torch": "versions of torch",
    "gpu": "GPUs",
}
SEPARATOR = "; "  # between the values of a unit that was computed on several
UNKNOWN = "not recorded"


def join_processes(processes: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Write the tags of a unit from what its processes computed on.

    >>> join_processes([{"processor": "a", "threads": "1"}, {"processor": "b", "threads": "1"}])
    {'processor': 'a; b', 'instruction_set': '', 'threads': '1', 'torch': '', 'gpu': ''}
    """
    described = list(processes)
    return {
        tag: SEPARATOR.join(sorted({one[tag] for one in described if one.get(tag)}))
        for tag in PROCESSOR_TAGS
    }


def processor_differences(units: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say in one line for each tag on how many different ones units were computed.

    Numbers of such units may differ for this reason alone. A unit without the tag counts as
    :data:`UNKNOWN`.

    >>> processor_differences([{"threads": "1"}, {"threads": "2"}, {"threads": "1; 2"}])
    ['units were computed on different numbers of threads: 1 (2 units), 2 (2 units)']
    """
    rows, lines = list(units), []
    for tag, what in PROCESSOR_TAGS.items():
        values = [str(row.get(tag) or UNKNOWN).split(SEPARATOR) for row in rows]
        counts = sorted(Counter(one for unit in values for one in set(unit)).items())
        if len(counts) > 1:
            shown = (f"{value} ({n} unit{'s' * (n != 1)})" for value, n in counts)
            lines.append(f"units were computed on different {what}: {', '.join(shown)}")
    return lines
