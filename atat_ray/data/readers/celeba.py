"""CelebA (Liu et al. 2015): the 1,000 identities with the most images, as inversion attacks use it.

``identity_CelebA.txt`` gives the identity of each image. The images are in ``hdcrop`` (the HD crop,
preferred where it exists) or in ``img_align_celeba``. Labels are ordered by the number of images,
largest first; identities with equal numbers keep the order of the file.
"""

from collections import Counter, defaultdict
from pathlib import Path

from atat_ray.data.accounting import account, ignore_other_entries
from atat_ray.data.interface import FileReader
from atat_ray.data.listing import (
    Listing,
    abbreviate,
    check_classes,
    images,
    open_root,
    require,
    shown,
)
from atat_ray.utils.messages import counted

IDENTITIES = "identity_CelebA.txt"
CROPS = ("hdcrop", "img_align_celeba")
PEOPLE = 1000


class CelebA(FileReader):
    """CelebA, one class for each of the 1,000 most frequent identities."""

    num_published = 30_038  # images of these identities, as the code of PPA gives it

    def list_files(self, root: Path) -> Listing:
        """List the images of the 1,000 most frequent identities."""
        listing = open_root(root)
        if listing.problems:
            return listing
        advice = "put the file there that comes with CelebA, beside the folder of images"
        lines = read_identities(listing) if require(listing, IDENTITIES, advice=advice) else []
        advice = "unpack img_align_celeba.zip there, or put the HD crop into hdcrop"
        crop = require(listing, *CROPS, advice=advice)
        if crop is None:
            return listing
        listing.notes.append(f"images are taken from {crop}")
        add_people(listing, lines, crop)
        ignore_other_entries(listing, IDENTITIES, crop)
        check_classes(
            listing,
            expected=PEOPLE,
            advice=f"{IDENTITIES} must name {PEOPLE} people or more; download the complete file",
        )
        return account(listing)


def read_identities(listing: Listing) -> list[tuple[str, str]]:
    """Read (image, identity) from each line, such as ``000001.jpg 2880``."""
    path = listing.root / IDENTITIES
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        listing.add_problem(
            f"cannot read {shown(path)}: {shown(str(error))}", "download the file again"
        )
        return []
    pairs = [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip()]
    whole = [(p[0], p[1]) for _, p in pairs if len(p) == 2 and p[1].isdecimal()]
    wrong = [n for n, p in pairs if len(p) != 2 or not p[1].isdecimal()]
    if wrong:
        listing.add_problem(
            f"{len(wrong)} lines of {IDENTITIES} are not IMAGE NUMBER, the first is line "
            f"{wrong[0]}: {lines[wrong[0] - 1][:60]!r}",
            "download the file again",
        )
    twice = [name for name, count in Counter(name for name, _ in whole).items() if count > 1]
    if twice:
        listing.add_problem(
            f"{IDENTITIES} names images twice: {abbreviate(twice)}", "download the file again"
        )
    return whole


def add_people(listing: Listing, lines: list[tuple[str, str]], crop: str) -> None:
    """Add the most frequent identities; report images that the folder lacks as a problem."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in images(listing, crop):
        found[Path(name).stem].append(name)
    own: dict[str, list[str]] = defaultdict(list)
    for name, identity in lines:
        own[identity].append(name)
    ranked = sorted(own, key=lambda identity: -len(own[identity]))  # stable
    absent: list[str] = []
    twice: list[str] = []
    for identity in ranked[:PEOPLE]:
        files = [(name, found.get(Path(name).stem, [])) for name in own[identity]]
        absent += [name for name, paths in files if not paths]
        twice += [" = ".join(paths) for _, paths in files if len(paths) > 1]
        listing.add(identity, [paths[0] for _, paths in files if paths])
    if absent:
        listing.add_problem(
            f"{crop} lacks {counted(len(absent), 'image')} that {IDENTITIES} names: "
            f"{abbreviate(absent)}",
            f"unpack the images into {crop} again",
        )
    if twice:
        listing.add_problem(
            f"{crop} has {len(twice)} images of {IDENTITIES} twice: {abbreviate(twice)}",
            "remove one of each",
        )
    add_others(listing, found, named={Path(name).stem for name, _ in lines})


def add_others(listing: Listing, found: dict[str, list[str]], named: set[str]) -> None:
    """Note the images that are not of the people who are used."""
    used = set(listing.names)
    rest = {stem: [path for path in paths if path not in used] for stem, paths in found.items()}
    unknown = [path for stem, paths in rest.items() if stem not in named for path in paths]
    others = [path for stem, paths in rest.items() if stem in named for path in paths]
    listing.ignore(unknown, f"images are not named by {IDENTITIES} and are not read")
    listing.ignore(others, f"images are not of the {PEOPLE} people and are not read")
