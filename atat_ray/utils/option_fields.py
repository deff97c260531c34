"""Fields of option dataclasses: how they are checked and hashed."""

import dataclasses
from typing import Any

from atat_ray.utils.errors import unknown

# As ``__pydantic_config__`` of a dataclass: pydantic then refuses unknown keys and infinities. The
# dataclass itself needs no pydantic, and checks its values in __post_init__.
STRICT = {"extra": "forbid", "allow_inf_nan": False}


def location_option() -> Any:
    """Declare an option that says where a file is, not what it holds; hashes leave it out."""
    return dataclasses.field(metadata={"location": True})


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
