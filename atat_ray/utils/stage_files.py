"""Files of finished stages, each stored with its specification and the hash of its content.

A stage file is an archive of ``torch.save``, followed by the SHA-256 of the archive in 32 bytes;
``torch.load`` reads it too, and ignores the hash.
"""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from atat_ray.utils.atomic_files import write_whole
from atat_ray.utils.messages import tell
from atat_ray.utils.terminal import printable

DIGEST_BYTES = hashlib.sha256().digest_size


class MissingStage(ValueError, OSError):
    """A stage file is missing or damaged that an earlier stage has written.

    It is no failure of the unit: when the unit runs again, the earlier stage is repeated.
    """


def save_stage(path: Path, specification: str, payload: dict[str, Any]) -> None:
    """Save the result of a stage with the hash of its specification and of its content."""
    buffer = io.BytesIO()
    torch.save({"specification": specification, **payload}, buffer)
    buffer.write(hashlib.sha256(buffer.getbuffer()).digest())
    write_whole(path, buffer.getbuffer())


def read_stage(path: Path) -> tuple[dict[str, Any] | None, str]:
    """Read a stage file of any specification.

    Returns:
        The payload, or None if there is no whole file; and one line on the damage, empty without.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    except OSError as error:
        return None, f"{path} cannot be read: {error.strerror}"
    archive = memoryview(content)[:-DIGEST_BYTES]
    if hashlib.sha256(archive).digest() != content[-DIGEST_BYTES:]:
        return None, f"{path} is damaged: its content has another sha256 than it says"
    try:
        check_size(content)
        payload = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except MemoryError:
        raise
    except Exception as error:  # torch raises many types of error on files that it did not write
        if "allocate memory" in str(error):
            raise
        reason = printable(" ".join(str(error).split()), 100)
        return None, f"{path} is no stage file: {reason}"
    if not isinstance(payload, dict) or "specification" not in payload:
        return None, f"{path} is no stage file: it has no specification"
    return payload, ""


def check_size(content: bytes) -> None:
    """Refuse an archive that unpacks to more bytes than it has; ``torch.save`` compresses nothing.

    Raises:
        ValueError, zipfile.BadZipFile: it is another archive.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > len(content):
        raise ValueError(f"it unpacks to {unpacked} bytes and has {len(content)}")


def payload_hash(value: Any) -> str:
    """Return the SHA-256 of nested dictionaries and lists of tensors and numbers.

    Equal values have equal hashes, whatever file they were read from.
    """
    digest = hashlib.sha256()
    update_hash(digest, value)
    return digest.hexdigest()


def update_hash(digest: Any, value: Any) -> None:
    """Add a value to a hash, with its types, shapes and the names of its parts."""
    if isinstance(value, torch.Tensor):
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    elif isinstance(value, dict):
        digest.update(f"dict{len(value)}".encode())
        for name in sorted(value, key=str):
            update_hash(digest, str(name))
            update_hash(digest, value[name])
    elif isinstance(value, list | tuple):
        digest.update(f"list{len(value)}".encode())
        for item in value:
            update_hash(digest, item)
    else:
        digest.update(f"{type(value).__name__}{value!r};".encode())


def load_stage(path: Path, specification: str) -> dict[str, Any] | None:
    """Load the result of a stage; None if missing, damaged, or of another specification.

    The user is told of a damaged file in one line.
    """
    payload, damage = read_stage(path)
    if damage:
        tell(f"{damage}; it counts as missing, and is made again where it is needed")
    if payload is None or payload["specification"] != specification:
        return None
    return payload
