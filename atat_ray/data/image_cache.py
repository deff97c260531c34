"""Cache of decoded image files: one file of pixels for each dataset, mapped into memory.

The cache of one dataset at one size is called a store.
"""

import contextlib
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atat_ray.data.decoding import TRANSFORM, decode_all
from atat_ray.data.file_digests import CACHE, MAX_BYTES, cache_folder, digests_of
from atat_ray.data.listing import Listing, corrupt_problem, shown
from atat_ray.data.pixel_modes import Corrupt
from atat_ray.data.stored_images import StoredImages
from atat_ray.utils.atomic_files import beside, sync_folder
from atat_ray.utils.hashing import specification_hash
from atat_ray.utils.json_files import Damaged, read_signed, write_signed
from atat_ray.utils.messages import tell

PIXELS, INDEX = "images.u8", "index.json"
LABELS = "labels and boxes"  # entry of a manifest beside those of the files


def manifest_of(listing: Listing, *, cache: Path | None = None) -> dict[str, str]:
    """Identify a dataset by its content: the SHA-256 of each file, and of all labels and boxes.

    Raises:
        ValueError: the listing has a problem; the message says what to do.
    """
    if listing.problems:
        more = len(listing.problems) - 1
        rest = f" ({more} more problems: `atat data check` lists them)" if more else ""
        raise ValueError(f"{listing.problems[0]}{rest}")
    labels = specification_hash(listing.names, listing.labels, listing.classes, listing.boxes)
    return {**digests_of(listing.root, listing.names, cache=cache), LABELS: labels}


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
    cache = cache or cache_folder()
    key = specification_hash(manifest_of(listing, cache=cache), size, TRANSFORM)
    folder = cache / key[:32]
    index, damage = read_index(folder)
    if damage:
        tell(f"{damage}; the images are decoded again")
    index = index or write_store(listing, folder, size)
    problem = corrupt_problem(listing, index["corrupt"], skip=skip_corrupt)
    if problem:
        raise ValueError(f"{shown(listing.root)}: {problem}")
    labels = torch.tensor(index["labels"], dtype=torch.long)
    count = len(labels) * 3 * size * size
    pixels = torch.from_file(str(folder / PIXELS), shared=False, size=count, dtype=torch.uint8)
    return StoredImages(pixels.view(len(labels), 3, size, size), fingerprint=key), labels


def read_index(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """Read the index of a store.

    Returns:
        The index, or None if there is no whole store; and one line on the damage, empty without.
    """
    try:
        index = read_signed(folder / INDEX, max_bytes=MAX_BYTES)
    except FileNotFoundError:
        return None, ""
    except Damaged as error:
        return None, str(error)
    if digests_of(folder, [PIXELS], cache=folder.parent)[PIXELS] != index["pixels_sha256"]:
        return None, f"{folder / PIXELS} is missing or damaged"
    return index, ""


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
            digest = hashlib.sha256()
            for number, found in decode_all(listing, size=size):
                name = listing.names[number]
                if isinstance(found, Corrupt):
                    corrupt[name] = str(found)
                    continue
                pixels = found.contiguous().numpy().tobytes()
                file.write(pixels)
                digest.update(pixels)
                names.append(name)
                labels.append(listing.labels[number])
            file.flush()
            os.fsync(file.fileno())
        index = {"classes": listing.classes, "names": names, "labels": labels, "corrupt": corrupt}
        index["pixels_sha256"] = digest.hexdigest()
        write_signed(temporary / INDEX, index)
        if read_index(folder)[0] is None:
            shutil.rmtree(folder, ignore_errors=True)  # it is incomplete
        with contextlib.suppress(FileExistsError, NotADirectoryError):
            temporary.rename(folder)  # another process has made the same store
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return index
