"""JSON files of a run folder: written with the hash of their content, and checked when read."""

import hashlib
import json
from pathlib import Path
from typing import Any

from atat_ray.utils.atomic_files import write_whole

DIGEST = "sha256"  # key of the hash, which covers all other keys
NUMBER = int | float  # shape of a number
MAX_BYTES = 2**24  # of a file; the outcome of 1,000 classes under ten attacks takes a tenth of it


class Damaged(ValueError):
    """A file cannot be read, or holds something else than what was written.

    Attributes:
        problem: what is wrong with the file, as the end of a sentence that begins with its name.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} {problem}")
        self.problem = problem


def read_text(path: Path, *, max_bytes: int = MAX_BYTES) -> str:
    """Read a UTF-8 text.

    Args:
        path: of the file.
        max_bytes: largest size of a file that is read.

    Raises:
        FileNotFoundError: there is no such file.
        Damaged: the file cannot be read, is too large or is not UTF-8.
    """
    try:
        size = path.stat().st_size  # memory for what is asked for is taken before it is read
        with path.open("rb") as file:
            raw = file.read(min(size, max_bytes) + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(error.errno, error.strerror, str(path)) from error
    except OSError as error:
        raise Damaged(path, f"cannot be read: {error.strerror}") from error
    if len(raw) > max_bytes:
        raise Damaged(path, f"cannot be read: it is larger than {max_bytes // 2**20} MiB")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Damaged(path, f"cannot be read: byte {error.start} is not UTF-8") from None


def read_json(path: Path, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        FileNotFoundError: there is no such file.
        Damaged: the file holds no JSON object; one line names the file and the problem.
    """
    text = read_text(path, max_bytes=max_bytes)
    try:
        content = json.loads(text)
    except RecursionError:
        raise Damaged(path, "cannot be read: it is nested too deeply") from None
    except ValueError as error:
        reason = "it is empty" if not text.strip() else f"it is not JSON: {error}"
        raise Damaged(path, f"cannot be read: {reason}") from None
    if not isinstance(content, dict):
        raise Damaged(path, "cannot be read: it holds no JSON object")
    return content


def digest_of(content: dict[str, Any]) -> str:
    """Return the SHA-256 of the canonical JSON of a content, in hexadecimal digits."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_signed(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object with the hash of its content, atomically."""
    plain = json.loads(json.dumps(content))  # keys become strings, tuples become lists
    signed = {**plain, DIGEST: digest_of(plain)}
    write_whole(path, json.dumps(signed, indent=1).encode())


def read_signed(path: Path, *, shape: Any = dict, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Read what :func:`write_signed` wrote, without the hash.

    Args:
        path: of the file.
        shape: of the content (:func:`misfit`).
        max_bytes: largest size of a file that is read.

    Raises:
        FileNotFoundError: there is no such file.
        Damaged: the file cannot be read, its content was changed after it was written, or it has
            another shape.
    """
    content = read_json(path, max_bytes=max_bytes)
    given = content.pop(DIGEST, None)
    try:
        found = digest_of(content)
    except RecursionError:
        raise Damaged(path, "cannot be read: it is nested too deeply") from None
    if given != found:
        raise Damaged(path, f"is damaged: its content has another {DIGEST} than it says")
    wrong = misfit(content, shape)
    if wrong:
        raise Damaged(path, f"is damaged: {wrong}")
    return content


def misfit(value: Any, shape: Any, name: str = "it") -> str:
    """Name the first part of a JSON value that has another shape than expected; empty if none.

    Args:
        value: parsed JSON.
        shape: a type or union of types, where an int has at most 64 bits; ``[shape]`` of a list;
            ``{type: shape}`` of an object whose keys are texts of that type;
            ``{key: shape, ...}`` of an object with these keys and perhaps others.
        name: of the value.
    """
    kind = type(shape) if isinstance(shape, list | dict) else shape
    if not isinstance(value, kind):
        return f"{name} has the wrong type: {repr(value)[:40]}"
    parts: list[tuple[str, Any, Any]] = []
    if isinstance(shape, list):
        parts = [(f"{name}[{i}]", item, shape[0]) for i, item in enumerate(value)]
    elif isinstance(shape, dict) and isinstance(key_type := next(iter(shape)), type):
        wrong = next((key for key in value if not is_text_of(key, key_type)), None)
        if wrong is not None:
            return f"{name} has a key that is no {key_type.__name__}: {wrong[:40]!r}"
        parts = [(f"{name}/{key}", item, shape[key_type]) for key, item in value.items()]
    elif isinstance(shape, dict):
        parts = [(f"{name}/{key}", value.get(key), inner) for key, inner in shape.items()]
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        return f"{name} is too large a number"
    return next(filter(None, (misfit(item, inner, part) for part, item, inner in parts)), "")


def is_text_of(text: str, kind: type) -> bool:
    """Tell whether a text can be read as a value of a type, such as an int."""
    try:
        kind(text)
    except ValueError:
        return False
    return True
