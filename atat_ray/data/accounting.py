"""Account for every entry of the folders that a reader looked into.

An entry is used, or refused by name in a problem, or ignored for a reason that a note states.
"""

import mimetypes
import os
import shutil
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path

from atat_ray.data.listing import (
    SUFFIXES,
    Kind,
    Listing,
    abbreviate,
    is_hidden,
    is_image,
    join,
    scan,
)

MAX_FOLDERS = 2000  # looked into below a folder that is not read, so that a wrong root ends soon
ARCHIVES = (".7z", ".rar", *(suffix for kind in shutil.get_unpack_formats() for suffix in kind[1]))

# Why entries are ignored: the text of a note after their number.
IGNORED = {
    "hidden": "hidden entries are ignored",
    "archive": "archives are not unpacked and are ignored",
    "file": "files that are no images by their suffix are ignored",
    "folder": "folders that hold no image are ignored",
}
# Why entries are refused: the text of a problem after their number, and what to do.
REFUSED = {
    "nowhere": (
        "links lead to nothing that can be read",
        "restore what they lead to, or remove them",
    ),
    "special": ("entries are neither files nor folders", "remove them"),
    "outside": (
        "images are not in the folder of a class",
        "move them into the folder of their class, or out of the dataset",
    ),
    "nested": (
        "folders inside folders of images hold more images, or cannot be looked into",
        "move them out of the dataset, or their images into the folder of the class",
    ),
    "unread": (
        "images have a suffix that is not read",
        f"convert them to one of {', '.join(SUFFIXES)}, or move them out of the dataset",
    ),
}


def account(listing: Listing) -> Listing:
    """Add a note or problem for every entry that is not used; return the same listing."""
    used = {*listing.names, *listing.scanned, *listing.accounted}
    unused: dict[str, list[str]] = defaultdict(list)
    for under, entries in listing.scanned.items():
        for name, kind in entries.items():
            path = join(under, name)
            if path not in used:
                unused[why_unused(listing.root / path, name, kind)].append(path)
    for why, text in IGNORED.items():
        listing.ignore(unused[why], text)
    for why, (what, advice) in REFUSED.items():
        if unused[why]:
            named = abbreviate(sorted(unused[why]))
            listing.add_problem(f"{len(unused[why])} {what}: {named}", advice)
    return listing


def why_unused(path: Path, name: str, kind: Kind) -> str:
    """Find the reason, a key of IGNORED or REFUSED, why an entry is not used."""
    if is_hidden(name):
        return "hidden"
    if kind in (Kind.NOWHERE, Kind.SPECIAL):
        return kind.name.lower()
    if kind is Kind.FOLDER:
        return "nested" if count_images(path) else "folder"
    if is_image(name):
        return "outside"
    if name.lower().endswith(ARCHIVES):
        return "archive"
    return "unread" if (mimetypes.guess_type(name)[0] or "").startswith("image/") else "file"


def count_images(top: Path) -> dict[str, int]:
    """Count the images of each folder at or below ``top`` that holds some; "." is ``top``.

    A folder that is not readable counts 0. Hidden folders, links and what is beyond MAX_FOLDERS
    folders are left out.
    """
    found: dict[str, int] = {}

    def note(error: OSError) -> None:
        found[os.path.relpath(error.filename, top)] = 0

    for place, inside, files in islice(os.walk(top, onerror=note), MAX_FOLDERS):
        inside[:] = sorted(name for name in inside if not is_hidden(name))
        number = sum(is_image(name) and not is_hidden(name) for name in files)
        if number:
            found[os.path.relpath(place, top)] = number
    return found


def ignore_other_entries(listing: Listing, *layout: str) -> None:
    """Ignore, with a note, the entries of the root that a fixed layout does not name."""
    listing.accounted.update(layout)
    others = {name for name in scan(listing, "") if name not in layout}
    listing.ignore(others, f"entries beside {' and '.join(layout)} are not read")


def describe_nested(listing: Listing, nested: list[str]) -> None:
    """Add a problem for folders of the root that hold folders of images instead of images.

    The advice names the folders that may have been meant as the root.
    """
    classes: Counter[str] = Counter()
    images: Counter[str] = Counter()
    for name in nested:
        listing.accounted.update(join(name, inner) for inner in scan(listing, name))
        for place, count in count_images(listing.root / name).items():
            above = os.path.normpath(os.path.join(name, place, ".."))
            classes[above] += 1
            images[above] += count
    roots = [
        f"{listing.root / place} ({classes[place]} class folders, {images[place]} images)"
        for place in classes
    ]
    listing.add_problem(
        f"{len(nested)} folders hold folders of images instead of images: {abbreviate(nested)}",
        f"if the inner folders are the classes, give one of these as root: {abbreviate(roots)}; "
        "if not, move the images of each class into its folder",
    )
