"""Hash a specification by its canonical JSON."""

import dataclasses
import hashlib
import json
from typing import Any

from atat_ray.utils.option_fields import hashed


def canonical(value: Any) -> Any:
    """Turn a specification of nested dataclasses into what JSON holds, kinds of dataclass named."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {name: canonical(item) for name, item in hashed(value).items()}
        return {"kind": type(value).__name__, **fields}
    if isinstance(value, dict):
        return {key: canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    return value


def specification_hash(*parts: Any) -> str:
    """Hash a specification: SHA-256 of its canonical JSON, in hex."""
    text = json.dumps(canonical(parts), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
