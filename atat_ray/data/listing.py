"""Listing of image files: their labels and boxes, and the problems of the folder.

An image file is used or refused by name. Anything else in a folder that a reader looks into is
used, or ignored for a reason that a note states; :mod:`atat_ray.data.accounting` sees to that.
"""

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from unicodedata import normalize

from atat_ray.utils.messages import counted
from atat_ray.utils.terminal import LINE, printable

SUFFIXES = (
    *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"),
    *(".tif", ".tiff", ".webp"),
)
MIN_IMAGES = 2  # of a class: one to train on and one to test with
MAX_NAMED = 3  # names in a message; the others are counted
SYSTEM = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")
PERMISSIONS = "change its permissions, for example with chmod -R u+rX"

Box = tuple[int, int, int, int]


class Kind(Enum):
    """Kind of an entry after links are followed; NOWHERE is a link that leads to nothing."""

    FILE = auto()
    FOLDER = auto()
    NOWHERE = auto()
    SPECIAL = auto()  # a pipe, socket or device


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
        scanned: entries by name, of each folder that was looked into.
        accounted: entries that are not images and need no further word.
    """

    root: Path
    classes: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    boxes: dict[str, Box] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    scanned: dict[str, dict[str, Kind]] = field(default_factory=dict)
    accounted: set[str] = field(default_factory=set)

    def add_problem(self, what: str, advice: str) -> None:
        """Add a problem and its remedy."""
        self.problems.append(Problem(what, advice))

    def ignore(self, names: Collection[str], why: str) -> None:
        """Leave out entries; a note counts and names them, and gives the reason."""
        self.accounted.update(names)
        if names:
            self.notes.append(f"{len(names)} {why}: {abbreviate(sorted(names))}")

    def add(self, name: str, files: Iterable[str]) -> None:
        """Add a class with its files, names relative to the root."""
        before = len(self.names)
        self.names += files
        self.labels += [len(self.classes)] * (len(self.names) - before)
        self.classes.append(shown(name))

    def counts(self, without: Collection[str] = ()) -> list[int]:
        """Count the images of each class, those in ``without`` left out."""
        found = [0] * len(self.classes)
        for name, label in zip(self.names, self.labels, strict=True):
            found[label] += name not in without
        return found


def shown(name: str | Path) -> str:
    """Make a name or path fit for a message and for a table, whole.

    >>> print(shown("a\\nb"))
    a\\nb
    """
    return printable(str(name), LINE)


def abbreviate(names: Iterable[str]) -> str:
    """List the first names and count the others.

    >>> abbreviate(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    listed = [shown(name) for name in names]
    more = f" and {len(listed) - MAX_NAMED} more" if len(listed) > MAX_NAMED else ""
    return ", ".join(listed[:MAX_NAMED]) + more


def expand(root: str | Path) -> Path:
    """Replace ``~`` by the home folder; an unknown user's stays as it is, and does not exist."""
    return Path(os.path.expanduser(root))  # Path.expanduser raises for an unknown user


def open_root(root: Path) -> Listing:
    """Start a listing; add a problem if the root is not a readable folder."""
    listing, name = Listing(root=root), shown(root)
    if not os.path.exists(root):  # Path.exists raises where the name is too long
        listing.add_problem(f"there is no folder {name}", "give the folder that holds the dataset")
    elif not os.path.isdir(root):
        listing.add_problem(f"{name} is a file", "unpack the archive and give the folder")
    elif not os.access(root, os.R_OK | os.X_OK):
        listing.add_problem(f"{name} is not readable", PERMISSIONS)
    return listing


def join(under: str, name: str) -> str:
    """Join the name of a folder of the root, empty for the root itself, and of an entry."""
    return f"{under}/{name}" if under else name


def is_image(name: str) -> bool:
    """Tell by its suffix whether a file is an image that is read."""
    return name.lower().endswith(SUFFIXES)


def is_hidden(name: str) -> bool:
    """Tell whether a name is hidden, or that of a folder which a system makes for itself."""
    return name.startswith(".") or name in SYSTEM


def folders(listing: Listing, under: str = "") -> list[str]:
    """List the folders in a folder of the root by name, without hidden ones."""
    entries = scan(listing, under).items()
    return sorted(name for name, kind in entries if kind is Kind.FOLDER and not is_hidden(name))


def images(listing: Listing, under: str) -> list[str]:
    """List the images in a folder of the root by name, relative to the root."""
    entries = scan(listing, under).items()
    good = [n for n, kind in entries if kind is Kind.FILE and not is_hidden(n) and is_image(n)]
    return sorted(join(under, name) for name in good)


def scan(listing: Listing, under: str) -> dict[str, Kind]:
    """Read a folder of the root, once; add a problem if it is not readable."""
    if under not in listing.scanned:
        listing.scanned[under] = {}
        try:
            with os.scandir(listing.root / under) as entries:
                listing.scanned[under] = {entry.name: kind_of(entry) for entry in entries}
        except OSError as error:
            denied = isinstance(error, PermissionError)
            listing.add_problem(
                f"cannot read {shown(listing.root / under)}: {error.strerror}",
                PERMISSIONS if denied else "restore the folder",
            )
    return listing.scanned[under]


def kind_of(entry: "os.DirEntry[str]") -> Kind:
    """Find the kind of an entry after its link, if it is one, is followed."""
    try:
        if entry.is_dir():
            return Kind.FOLDER
        if entry.is_file():
            return Kind.FILE
    except OSError:  # a link that leads to itself, or into a folder that is not readable
        return Kind.NOWHERE
    return Kind.NOWHERE if entry.is_symlink() and not os.path.exists(entry.path) else Kind.SPECIAL


def require(listing: Listing, *names: str, advice: str) -> str | None:
    """Return the first of some names that the root has; add a problem if it has none.

    If one folder deeper or higher has it, the advice is to give that folder.
    """
    root = listing.root
    here = next((name for name in names if name in scan(listing, "")), None)
    if here is None:
        near = (*(root / folder for folder in folders(listing)), root.absolute().parent)
        found = [place for place in near for name in names if os.path.exists(place / name)]
        if found:
            advice = f"{shown(found[0])} has it: give that folder as root, or move it here"
        listing.add_problem(f"{shown(root)} has no {' or '.join(names)}", advice)
    return here


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
    sizes = list(zip(listing.classes, listing.counts(), strict=True))
    empty = [name for name, size in sizes if size == 0]
    small = [name for name, size in sizes if 0 < size < MIN_IMAGES]
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
    """Group class names that differ only in case, spaces, composed letters or parent folder."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        plain = normalize("NFKC", name.rpartition("/")[2]).casefold().replace("_", " ")
        groups[" ".join(plain.split())].append(name)
    return {plain: names for plain, names in groups.items() if len(names) > 1}


def corrupt_problem(listing: Listing, corrupt: Mapping[str, str], *, skip: bool) -> Problem | None:
    """Say what is to be done about images that cannot be decoded.

    Args:
        listing: of the dataset.
        corrupt: reasons by name of the images.
        skip: whether they are to be left out.

    Returns:
        None if there are none, or if they are to be left out and every class keeps enough images.
    """
    if not corrupt:
        return None
    reason = shown(next(iter(corrupt.values())))
    named = f"{abbreviate(corrupt)} (the first: {reason})"
    what = f"{counted(len(corrupt), 'image')} cannot be decoded: {named}"
    left = zip(listing.classes, listing.counts(without=corrupt), strict=True)
    small = [f"{name} ({size})" for name, size in left if size < MIN_IMAGES]
    if small:
        return Problem(
            what,
            f"replace them; skip_corrupt: true cannot leave them out, because {len(small)} classes "
            f"would keep fewer than {MIN_IMAGES} images: {abbreviate(small)}",
        )
    if skip:
        return None
    return Problem(what, "replace them, or set skip_corrupt: true in data to leave them out")
