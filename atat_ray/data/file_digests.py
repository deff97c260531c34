"""SHA-256 of files, kept with size, times and inode, so that an unchanged file is read once."""

import contextlib
import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from atat_ray.data.decoding import progress
from atat_ray.utils.hashing import file_hash
from atat_ray.utils.json_files import Damaged, read_signed, write_signed

CACHE = "ATAT_CACHE"
FOLDER = "digests"  # in the cache folder
MAX_BYTES = 2**30  # of a file that lists images: some millions of them
# A file that is written twice within the resolution of its times has equal times. A digest is
# therefore kept only once the file has been left alone for longer than any resolution.
SETTLED_NS = 3 * 10**9
FEW = 1000  # files that are hashed without a progress bar


def cache_folder() -> Path:
    """Return the folder of all caches: $ATAT_CACHE, otherwise atat-ray in the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "atat-ray"
    return Path(os.environ.get(CACHE) or default).expanduser()


def digests_of(root: Path, names: Sequence[str], *, cache: Path | None = None) -> dict[str, str]:
    """Return the SHA-256 of files, by name; only files that changed since the last call are read.

    Args:
        root: folder that the names are relative to.
        names: of the files.
        cache: folder of all caches; :func:`cache_folder` if None.

    Returns:
        By name, 64 hexadecimal digits, or the reason why the file cannot be read.
    """
    root = root.absolute()
    place = hashlib.sha256(os.fsencode(root)).hexdigest()[:32]
    file = (cache or cache_folder()) / FOLDER / f"{place}.json"
    kept, now = read_kept(file), time.time_ns()
    stamps = {name: stamp(root / name) for name in names}
    changed = [name for name in names if name not in kept or kept[name][:-1] != stamps[name]]
    fresh = dict(zip(changed, hash_all(root, changed), strict=True))
    settled = {
        name: [*stamps[name], digest]
        for name, digest in fresh.items()
        if stamps[name] and max(stamps[name][1:3]) < now - SETTLED_NS
    }
    if settled:
        with contextlib.suppress(OSError):  # without a cache the files are read again
            write_signed(file, kept | settled)
    return {name: fresh[name] if name in fresh else kept[name][-1] for name in names}


def read_kept(file: Path) -> dict[str, Any]:
    """Read the digests that were kept; none if there is no file or it is damaged."""
    try:
        return read_signed(file, max_bytes=MAX_BYTES)
    except (FileNotFoundError, Damaged):
        return {}


def stamp(path: Path) -> list[int]:
    """Return size, time of content, time of change and inode of a file; empty without a file."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def hash_all(root: Path, names: Sequence[str]) -> list[str]:
    """Hash files on all cores; in place of a hash, the reason why a file cannot be read."""

    def one(name: str) -> str:
        try:
            return file_hash(root / name)
        except OSError as error:
            return f"cannot be read: {error.strerror}"

    if len(names) < FEW:
        return [one(name) for name in names]
    found = []
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress(len(names), root) as advance:
        for digest in pool.map(one, names):
            found.append(digest)
            advance()
    return found
