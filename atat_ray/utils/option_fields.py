"""Fields of option dataclasses: how they are checked and hashed."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from atat_ray.utils.errors import unknown

# As ``__pydantic_config__`` of a dataclass: pydantic then refuses unknown keys and infinities. The
# dataclass itself needs no pydantic, and checks its values in __post_init__.
STRICT = {"extra": "forbid", "allow_inf_nan": False}


def location_option() -> Any:
    """Declare an option that says where a file is, not what it holds; hashes leave it out."""
    return dataclasses.field(metadata={"location": True, "path": True})


def path_option(default: str | None) -> Any:
    """Declare an option that is a path; one that is relative starts at the protocol's folder."""
    return dataclasses.field(default=default, metadata={"path": True})


def with_absolute_paths(options: Any, folder: Path) -> Any:
    """Replace relative paths in the options of a dataclass, and of those inside it.

    Args:
        options: a dataclass, or any other value, which is returned.
        folder: where a relative path starts. A path that begins with ``~`` is not relative.
    """
    if not dataclasses.is_dataclass(options) or isinstance(options, type):
        return options
    changes = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if "path" in field.metadata and isinstance(value, str) and not value.startswith("~"):
            changes[field.name] = os.path.abspath(folder / value)
        elif (changed := with_absolute_paths(value, folder)) is not value:
            changes[field.name] = changed
    return dataclasses.replace(options, **changes) if changes else options


def hashed_options(options: Any) -> dict[str, Any]:
    """List the options of a dataclass that determine a result, by name: all but locations."""
    fields = (field for field in dataclasses.fields(options) if "location" not in field.metadata)
    return {field.name: getattr(options, field.name) for field in fields}


def preset_options(kind: Any, name: str) -> dict[str, Any]:
    """Return the options of a preset of a class.

    Raises:
        ValueError: the class has no such preset; the message has the nearest and all names.
    """
    presets = getattr(kind, "presets", {})
    if name not in presets:
        raise unknown("preset", name, presets)
    return presets[name]
