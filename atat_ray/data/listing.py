"""Listing of image files: their labels and boxes, and the problems of the folder."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MIN_IMAGES = 2  # of a class: one to train on and one to test with
MAX_NAMED = 3  # names in a message; the others are counted

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something missing or wrong in a folder, and what to do about it."""

    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what}; {self.advice}"


@dataclass(slots=True)
class Listing:
    """The image files of a dataset in a fixed order; a reader collects problems and never raises.

    Attributes:
        root: folder that the names are relative to.
        classes: names of the classes; a label is an index into this list.
        names: of the files, with forward slashes.
        labels: of the files.
        boxes: (left, top, right, bottom) in pixels, by name of the files that are cropped.
        problems: reasons why the dataset cannot be used; empty if it can.
        notes: observations that do not prevent the use of the dataset.
    """

    root: Path
    classes: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    boxes: dict[str, Box] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add_problem(self, what: str, advice: str) -> None:
        """Add a problem and its remedy."""
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


def abbreviate(names: Iterable[str]) -> str:
    """List the first names and count the others.

    >>> abbreviate(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    listed = list(names)
    more = f" and {len(listed) - MAX_NAMED} more" if len(listed) > MAX_NAMED else ""
    return ", ".join(listed[:MAX_NAMED]) + more


def open_root(root: Path) -> Listing:
    """Start a listing; add a problem if the root is not a readable folder."""
    listing = Listing(root=root)
    if not root.exists():
        listing.add_problem(f"there is no folder {root}", "give the folder that holds the dataset")
    elif not root.is_dir():
        listing.add_problem(f"{root} is a file", "unpack the archive and give the folder")
    elif not os.access(root, os.R_OK | os.X_OK):
        listing.add_problem(
            f"{root} is not readable", "change its permissions, for example with chmod -R u+rX"
        )
    return listing


def folders(listing: Listing, under: str = "") -> list[str]:
    """List the folders in a folder of the root by name, without hidden ones."""
    return sorted(
        name for name, entry in scan(listing, under).items() if entry.is_dir() and name[0] != "."
    )


def images(listing: Listing, under: str) -> list[str]:
    """List the images in a folder of the root by name, relative to the root.

    Other files are counted in a note, so that images with an unexpected suffix are noticed.
    """
    files = [n for n, entry in scan(listing, under).items() if entry.is_file() and n[0] != "."]
    good = [name for name in files if name.lower().endswith(SUFFIXES)]
    if len(good) < len(files):
        others = sorted(set(files) - set(good))
        listing.notes.append(
            f"{under}: {len(others)} files that are no images: {abbreviate(others)}"
        )
    return sorted(f"{under}/{name}" for name in good)


def scan(listing: Listing, under: str) -> dict[str, os.DirEntry[str]]:
    """Read a folder of the root; add a problem if it is not readable."""
    try:
        with os.scandir(listing.root / under) as entries:
            return {entry.name: entry for entry in entries}
    except OSError as error:
        listing.add_problem(
            f"cannot read {listing.root / under}: {error.strerror}",
            "change its permissions, for example with chmod -R u+rX",
        )
        return {}


def require(listing: Listing, name: str, advice: str) -> bool:
    """Tell whether the root has a file or folder; add a problem if not."""
    found = (listing.root / name).exists()
    if not found:
        listing.add_problem(f"{listing.root} has no {name}", advice)
    return found


def check_classes(listing: Listing, *, expected: int | None = None, advice: str = "") -> Listing:
    """Add problems for classes that are missing, empty, too small or named alike.

    Args:
        listing: with all its classes.
        expected: number of classes of the complete dataset, if known.
        advice: what to do if some are missing.

    Returns:
        The same listing.
    """
    if expected is not None and len(listing.classes) != expected:
        listing.add_problem(f"{len(listing.classes)} of {expected} classes are there", advice)
    sizes = dict(zip(listing.classes, listing.counts(), strict=True))
    empty = [name for name, size in sizes.items() if size == 0]
    small = [name for name, size in sizes.items() if 0 < size < MIN_IMAGES]
    if empty:
        listing.add_problem(
            f"{len(empty)} class folders hold no image: {abbreviate(empty)}",
            "put their images back, or remove the folders",
        )
    if small:
        listing.add_problem(
            f"{len(small)} classes have fewer than {MIN_IMAGES} images, which cannot be split into "
            f"training and test images: {abbreviate(small)}",
            "add images of them, or remove the folders",
        )
    for names in similar_names(listing.classes).values():
        listing.add_problem(
            f"classes with the same name: {abbreviate(names)}",
            "rename one if they differ, or put their images into one folder",
        )
    return listing


def similar_names(classes: Iterable[str]) -> Mapping[str, list[str]]:
    """Group class names that differ only in case, spaces or their parent folder."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        plain = name.rpartition("/")[2].casefold().replace("_", " ")
        groups[" ".join(plain.split())].append(name)
    return {plain: names for plain, names in groups.items() if len(names) > 1}
