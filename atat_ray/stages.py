"""Files that are either whole and of the right specification, or not there."""

import dataclasses
import hashlib
import io
import json
import os
import pickle
import platform
from pathlib import Path
from typing import Any

import torch

from atat_ray.options import hashed


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


def beside(path: Path) -> Path:
    """Name a file or folder to write before it becomes ``path``, which no other process writes."""
    return path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}")


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file under a temporary name and rename it, so that nobody sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path)
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_stage(path: Path, specification: str, payload: dict[str, Any]) -> None:
    """Save the result of a stage with the hash of its specification."""
    buffer = io.BytesIO()
    torch.save({"specification": specification, **payload}, buffer)
    write_whole(path, buffer.getbuffer())


def load_stage(path: Path, specification: str) -> dict[str, Any] | None:
    """Load the result of a stage; None if it is not there, broken, or of another specification."""
    try:
        payload = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None
    if not isinstance(payload, dict) or payload.get("specification") != specification:
        return None
    return payload
