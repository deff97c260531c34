"""Parse the JSON texts of a record: artifacts and tags, which may have been altered."""

from __future__ import annotations

import json
from typing import Any, TypeVar

DEEPEST = 50  # levels of objects and lists; writing and showing a text recurses over them
_SHOWN = 80  # characters of a text in a message

_Kind = TypeVar("_Kind", dict[str, Any], list[Any])


def parse_json(text: str | bytes, kind: type[_Kind], what: str) -> _Kind:
    """Parse a JSON text of a record.

    Args:
        text: the JSON, in UTF-8 if bytes.
        kind: ``dict`` for an object, ``list`` for a list.
        what: name of the text in the message, such as ``"the tag versions"``.

    Raises:
        ValueError: it is not JSON, of another kind, or nested more than 50 deep.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, kind) or not _is_shallow(found):
        expected = "object" if kind is dict else "list"
        shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        raise ValueError(
            f"{what} must be a JSON {expected} of at most {DEEPEST} levels, got "
            f"{shown[:_SHOWN]!r}; the record was altered: `atat verify` lists what differs"
        )
    return found


def _is_shallow(found: dict[str, Any] | list[Any]) -> bool:
    level: list[Any] = [found]
    for _ in range(DEEPEST):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return True
    return False
