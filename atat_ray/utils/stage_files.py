"""Files of finished stages, each stored with the hash of its specification."""

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from atat_ray.utils.atomic_files import write_whole


def save_stage(path: Path, specification: str, payload: dict[str, Any]) -> None:
    """Save the result of a stage with the hash of its specification."""
    buffer = io.BytesIO()
    torch.save({"specification": specification, **payload}, buffer)
    write_whole(path, buffer.getbuffer())


def load_stage(path: Path, specification: str) -> dict[str, Any] | None:
    """Load the result of a stage; None if missing, damaged, or of another specification."""
    try:
        payload = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None
    if not isinstance(payload, dict) or payload.get("specification") != specification:
        return None
    return payload
