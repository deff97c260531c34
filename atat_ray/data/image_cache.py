"""Cache of decoded image files: one file of pixels for each dataset, mapped into memory.

The cache of one dataset at one size is called a store.
"""

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atat_ray.data.decoding import TRANSFORM, decode_all
from atat_ray.data.listing import Listing, corrupt_problem, shown
from atat_ray.data.pixel_modes import Corrupt
from atat_ray.data.stored_images import StoredImages
from atat_ray.utils.atomic_files import beside

PIXELS, INDEX = "images.u8", "index.json"
CACHE = "ATAT_CACHE"


def cache_folder() -> Path:
    """Return the folder of all stores: $ATAT_CACHE, otherwise atat-ray in the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "atat-ray"
    return Path(os.environ.get(CACHE) or default).expanduser()


def store_key(listing: Listing, size: int) -> str:
    """Compute the key of a store from names, sizes in bytes, labels, boxes and the transform."""
    root = listing.root
    files = [
        (name, (root / name).stat().st_size, label, listing.boxes.get(name))
        for name, label in zip(listing.names, listing.labels, strict=True)
    ]
    text = json.dumps([files, listing.classes, size, TRANSFORM])
    return hashlib.sha256(text.encode()).hexdigest()


def open_store(
    listing: Listing, *, size: int, skip_corrupt: bool = False, cache: Path | None = None
) -> tuple[StoredImages, Tensor]:
    """Open the store of a dataset; decode its files first if there is no store.

    Args:
        listing: of the files.
        size: side of the square images in pixels.
        skip_corrupt: leave out files that cannot be decoded.
        cache: folder of all stores; :func:`cache_folder` if None.

    Returns:
        images (N, 3, size, size), which are read when indexed, and labels (N,) long.

    Raises:
        ValueError: the listing has a problem, or an image is corrupt; the message says what to do.
    """
    if listing.problems:
        more = len(listing.problems) - 1
        rest = f" ({more} more problems: `atat data check` lists them)" if more else ""
        raise ValueError(f"{listing.problems[0]}{rest}")
    key = store_key(listing, size)
    folder = (cache or cache_folder()) / key[:32]
    index = read_index(folder, size) or write_store(listing, folder, size)
    problem = corrupt_problem(listing, index["corrupt"], skip=skip_corrupt)
    if problem:
        raise ValueError(f"{shown(listing.root)}: {problem}")
    labels = torch.tensor(index["labels"], dtype=torch.long)
    count = len(labels) * 3 * size * size
    pixels = torch.from_file(str(folder / PIXELS), shared=False, size=count, dtype=torch.uint8)
    return StoredImages(pixels.view(len(labels), 3, size, size), fingerprint=key), labels


def read_index(folder: Path, size: int) -> dict[str, Any] | None:
    """Read the index of a store; None if the store is missing or incomplete."""
    try:
        index = json.loads((folder / INDEX).read_text())
        whole = (folder / PIXELS).stat().st_size == len(index["labels"]) * 3 * size * size
    except (OSError, ValueError):
        return None
    return index if whole else None


def write_store(listing: Listing, folder: Path, size: int) -> dict[str, Any]:
    """Decode every file into a store under a temporary name, then rename it; return its index."""
    need = len(listing.names) * 3 * size * size
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if need > free:
        raise ValueError(
            f"the images take {need / 2**30:.1f} GiB at {size} x {size} pixels and "
            f"{folder.parent} has {free / 2**30:.1f} GiB free; set {CACHE} to another folder"
        )
    temporary = beside(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    names, labels, corrupt = [], [], {}
    try:
        with (temporary / PIXELS).open("wb") as file:
            for number, found in decode_all(listing, size=size):
                name = listing.names[number]
                if isinstance(found, Corrupt):
                    corrupt[name] = str(found)
                    continue
                file.write(found.contiguous().numpy().tobytes())
                names.append(name)
                labels.append(listing.labels[number])
        index = {"classes": listing.classes, "names": names, "labels": labels, "corrupt": corrupt}
        (temporary / INDEX).write_text(json.dumps(index))
        if read_index(folder, size) is None:
            shutil.rmtree(folder, ignore_errors=True)  # it is incomplete
        with contextlib.suppress(FileExistsError, NotADirectoryError):
            temporary.rename(folder)  # another process has made the same store
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return index
