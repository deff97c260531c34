"""Fields of option dataclasses: how they are read, written and hashed."""

import dataclasses
from typing import Any

# For ``__pydantic_config__`` of a dataclass: pydantic then refuses unknown keys and infinities. The
# dataclass itself does not need pydantic and checks its values in __post_init__.
STRICT = {"extra": "forbid", "allow_inf_nan": False}


def later(default: Any) -> Any:
    """Declare an option that came after results had been recorded: its default is what was done.

    At that default it is not written into a protocol, whose hash enters the draw of its allocation.
    """
    return dataclasses.field(default=default, metadata={"later": True})


def location_option() -> Any:
    """Declare an option that says where a file is, not what it holds; hashes leave it out."""
    return dataclasses.field(metadata={"location": True})


def written(options: Any) -> dict[str, Any]:
    """List the options of a dataclass that are written down, by name."""
    fields = dataclasses.fields(options)
    pairs = ((field, getattr(options, field.name)) for field in fields)
    return {f.name: v for f, v in pairs if not ("later" in f.metadata and v == f.default)}


def hashed(options: Any) -> dict[str, Any]:
    """List the options of a dataclass that determine a result, by name: all but locations."""
    fields = (field for field in dataclasses.fields(options) if "location" not in field.metadata)
    return {field.name: getattr(options, field.name) for field in fields}
