"""Hash specifications by their canonical JSON, and files by their content."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from atat_ray.utils.option_fields import hashed_options


def canonical(value: Any) -> Any:
    """Convert a specification of nested dataclasses to JSON types, with the class names.

    Options that are locations are left out (:func:`~atat_ray.utils.option_fields.location_option`).

    >>> canonical({"scale": (0.85, 1.08)})
    {'scale': [0.85, 1.08]}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {name: canonical(item) for name, item in hashed_options(value).items()}
        return {"kind": type(value).__name__, **fields}
    if isinstance(value, dict):
        return {key: canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    return value


def specification_hash(*parts: Any) -> str:
    """Return the SHA-256 of a specification's canonical JSON, in hexadecimal digits."""
    text = json.dumps(canonical(parts), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
