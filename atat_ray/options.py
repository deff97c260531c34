"""How dataclasses of options are read from a file."""

# As ``__pydantic_config__`` of a dataclass: pydantic then refuses keys that it does not have, and
# infinities. The dataclass itself needs no pydantic, and checks its values in __post_init__.
STRICT = {"extra": "forbid", "allow_inf_nan": False}
