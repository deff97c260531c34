"""What a folder of images holds and lacks: the listing that every reader of files makes."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
LEAST = 2  # images of a class: one to train on and one to test with
NAMED = 3  # things that a message names before it counts the rest

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is missing or wrong, and what to do about it."""

    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what}; {self.advice}"


@dataclass(slots=True)
class Listing:
    """The images of a dataset in a fixed order; a reader fills it and never raises.

    Attributes:
        root: folder that the names are relative to.
        classes: names of the classes; a label is an index of it.
        names: of the files, with forward slashes.
        labels: of the files.
        boxes: (left, top, right, bottom) in pixels, of the files that are cropped.
        problems: why the dataset cannot be used as it is; empty if it can.
        notes: what is worth knowing and stops nothing.
    """

    root: Path
    classes: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    boxes: dict[str, Box] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lack(self, what: str, advice: str) -> None:
        """Write down a problem."""
        self.problems.append(Problem(what, advice))

    def add(self, name: str, files: Iterable[str]) -> None:
        """Add a class with its files, names relative to the root."""
        before = len(self.names)
        self.names += files
        self.labels += [len(self.classes)] * (len(self.names) - before)
        self.classes.append(name)

    def counts(self) -> list[int]:
        """Count the images of each class."""
        found = [0] * len(self.classes)
        for label in self.labels:
            found[label] += 1
        return found


def some(names: Iterable[str]) -> str:
    """Name the first few of many things, and count the rest."""
    listed = list(names)
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return ", ".join(listed[:NAMED]) + more


def open_root(root: Path) -> Listing:
    """Begin a listing; it has a problem already if the root is no folder that can be read."""
    listing = Listing(root=root)
    if not root.exists():
        listing.lack(f"there is no folder {root}", "give the folder that holds the dataset")
    elif not root.is_dir():
        listing.lack(f"{root} is a file", "give the folder it was unpacked to, not the archive")
    elif not os.access(root, os.R_OK | os.X_OK):
        listing.lack(f"{root} may not be read", "change its permissions, as with chmod -R u+rX")
    return listing


def folders(listing: Listing, under: str = "") -> list[str]:
    """List the folders in a folder of the root by name, hidden ones left out."""
    return sorted(
        name for name, entry in scan(listing, under).items() if entry.is_dir() and name[0] != "."
    )


def images(listing: Listing, under: str) -> list[str]:
    """List the images in a folder of the root by name, relative to the root.

    Other files are counted in a note, or a file with a suffix that nobody expects would be missed
    by nobody.
    """
    files = [n for n, entry in scan(listing, under).items() if entry.is_file() and n[0] != "."]
    good = [name for name in files if name.lower().endswith(SUFFIXES)]
    if len(good) < len(files):
        others = sorted(set(files) - set(good))
        listing.notes.append(f"{under}: {len(others)} files that are no images: {some(others)}")
    return sorted(f"{under}/{name}" for name in good)


def scan(listing: Listing, under: str) -> dict[str, os.DirEntry[str]]:
    """Read a folder of the root; one that may not be read is a problem."""
    try:
        with os.scandir(listing.root / under) as entries:
            return {entry.name: entry for entry in entries}
    except OSError as error:
        listing.lack(
            f"cannot read {listing.root / under}: {error.strerror}",
            "change its permissions, as with chmod -R u+rX",
        )
        return {}


def require(listing: Listing, name: str, advice: str) -> bool:
    """Tell whether a file or folder of the root is there; if not, that is a problem."""
    found = (listing.root / name).exists()
    if not found:
        listing.lack(f"{listing.root} has no {name}", advice)
    return found


def check_classes(listing: Listing, *, expected: int | None = None, advice: str = "") -> Listing:
    """Write down classes that are missing, empty, too small or named alike.

    Args:
        listing: with all its classes.
        expected: number of classes that the whole dataset has.
        advice: what to do where some are missing.
    """
    if expected is not None and len(listing.classes) != expected:
        listing.lack(f"{len(listing.classes)} of {expected} classes are there", advice)
    sizes = dict(zip(listing.classes, listing.counts(), strict=True))
    empty = [name for name, size in sizes.items() if size == 0]
    small = [name for name, size in sizes.items() if 0 < size < LEAST]
    if empty:
        listing.lack(
            f"{len(empty)} class folders hold no image: {some(empty)}",
            "put their images back, or remove the folders",
        )
    if small:
        listing.lack(
            f"{len(small)} classes have fewer than {LEAST} images, which cannot be split into "
            f"training and test images: {some(small)}",
            "add images of them, or remove the folders",
        )
    for names in alike(listing.classes).values():
        listing.lack(
            f"classes with the same name: {some(names)}",
            "rename one if they differ, or put their images into one folder",
        )
    return listing


def alike(classes: Iterable[str]) -> Mapping[str, list[str]]:
    """Group class names that differ in nothing but case, spaces or their parent folder."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        plain = name.rpartition("/")[2].casefold().replace("_", " ")
        groups[" ".join(plain.split())].append(name)
    return {plain: names for plain, names in groups.items() if len(names) > 1}
