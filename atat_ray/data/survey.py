"""Survey of a dataset's images: those that cannot be used, and what is odd about the others."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from atat_ray.data.decoding import Unreadable, for_each, opened, square
from atat_ray.data.listing import Box, Listing, abbreviate
from atat_ray.data.pixel_modes import remarks, to_rgb

SIDE = 32  # pixels; decoding reads the whole file whatever the size
FLAT = 16  # of 255 gray levels: an image with no more between its darkest and lightest pixel


@dataclass(frozen=True, slots=True)
class Look:
    """What is remembered of an image.

    Attributes:
        side: the shorter side in pixels.
        flat: whether its pixels differ by at most FLAT gray levels in every channel.
        content: digest of its pixels at SIDE x SIDE.
        remarks: what its file holds beside its pixels.
    """

    side: int
    flat: bool
    content: bytes
    remarks: tuple[str, ...]


@dataclass(slots=True)
class Survey:
    """Images of a listing that cannot be used, and what is odd about the others.

    Attributes:
        corrupt: reasons by name of the images that cannot be decoded.
        unreadable: reasons by name of the images that cannot be read.
        notes: observations that do not prevent the use of the dataset.
    """

    corrupt: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def survey(listing: Listing) -> Survey:
    """Decode each image of a listing."""
    found = Survey()
    looks: dict[int, Look] = {}
    for number, look in for_each(listing, look_at):
        name = listing.names[number]
        if isinstance(look, Look):
            looks[number] = look
        elif isinstance(look, Unreadable):
            found.unreadable[name] = str(look)
        else:
            found.corrupt[name] = str(look)
    found.notes += [*describe_files(listing, looks), *describe_content(listing, looks)]
    return found


def look_at(path: Path, *, box: Box | None) -> Look | Unreadable:
    """Decode an image and look at its file.

    Raises:
        Corrupt: the file cannot be decoded.
    """
    try:
        with opened(path) as image:
            pixels = square(to_rgb(image), size=SIDE, box=box)
            width, height = image.size
            try:
                said = tuple(remarks(image))
            except Exception:  # the pixels are whole; what is beside them is damaged
                said = ("hold damaged data beside their pixels, which are ignored",)
    except Unreadable as error:
        return error
    spread = pixels.flatten(1).amax(1).int() - pixels.flatten(1).amin(1).int()
    return Look(
        side=min(width, height),
        flat=int(spread.max()) <= FLAT,
        content=hashlib.sha256(pixels.contiguous().numpy().tobytes()).digest(),
        remarks=said,
    )


def describe_files(listing: Listing, looks: dict[int, Look]) -> Iterator[str]:
    """Describe the smallest image, and what files hold beside their pixels."""
    if looks:
        smallest = min(looks, key=lambda number: looks[number].side)
        side = looks[smallest].side
        yield f"the shorter side of the smallest image has {side} pixels: " + abbreviate(
            [listing.names[smallest]]
        )
    said: dict[str, list[str]] = defaultdict(list)
    for number, look in looks.items():
        for remark in look.remarks:
            said[remark].append(listing.names[number])
    for remark, names in said.items():
        yield f"{len(names)} images {remark}: {abbreviate(names)}"


def describe_content(listing: Listing, looks: dict[int, Look]) -> Iterator[str]:
    """Describe images that are flat, and images that show the same as others."""
    flat = [listing.names[number] for number, look in looks.items() if look.flat]
    if flat:
        yield f"{len(flat)} images are of one colour, or nearly so: {abbreviate(flat)}"
    same: dict[bytes, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    contents: dict[int, list[bytes]] = defaultdict(list)
    for number, look in looks.items():
        label = listing.labels[number]
        same[look.content][label].append(listing.names[number])
        contents[label].append(look.content)
    alike = [listing.classes[c] for c, of in contents.items() if len(of) > len(set(of)) == 1]
    if alike:
        yield f"{len(alike)} classes have images that are all alike: {abbreviate(alike)}"
    across = [sum(groups.values(), []) for groups in same.values() if len(groups) > 1]
    within = [names for groups in same.values() for names in groups.values() if len(names) > 1]
    for copies, where in (
        (across, "images are the same in several classes, so that a label is wrong"),
        (within, "images are the same in one class, and may be training and test images at once"),
    ):
        if copies:
            pairs = abbreviate([f"{names[0]} = {names[-1]}" for names in copies])
            yield f"{sum(map(len, copies))} {where}: {pairs}"
