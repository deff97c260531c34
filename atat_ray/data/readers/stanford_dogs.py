"""Stanford Dogs (Khosla et al. 2011): 120 breeds, each image cropped to its first bounding box.

Files are ``Images/BREED/NAME.jpg`` and ``Annotation/BREED/NAME``, an XML file without a suffix. The
official lists of training and test images are not used: the splits are drawn here.
"""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from atat_ray.data.accounting import account, ignore_other_entries
from atat_ray.data.interface import FileReader
from atat_ray.data.listing import (
    Box,
    Kind,
    Listing,
    abbreviate,
    check_classes,
    folders,
    images,
    is_hidden,
    open_root,
    require,
    scan,
)

BREEDS = 120
SIDES = ("xmin", "ymin", "xmax", "ymax")


class StanfordDogs(FileReader):
    """Stanford Dogs, one class for each breed."""

    num_published = 20_580

    def list_files(self, root: Path) -> Listing:
        """List the breeds in the order of their folders; read the first box of each image."""
        listing = open_root(root)
        if listing.problems:
            return listing
        if require(listing, "Images", advice="unpack images.tar there"):
            for breed in folders(listing, "Images"):
                listing.add(breed, images(listing, f"Images/{breed}"))
        if require(listing, "Annotation", advice="unpack annotation.tar there"):
            add_boxes(listing)
        ignore_other_entries(listing, "Images", "Annotation")
        check_classes(listing, expected=BREEDS, advice="unpack images.tar again")
        return account(listing)


def add_boxes(listing: Listing) -> None:
    """Read the box of every image; report missing, broken and surplus annotations as problems."""
    add_surplus_annotations(listing)
    missing: list[str] = []
    broken: list[str] = []
    for name in listing.names:
        path = listing.root / "Annotation" / Path(name).relative_to("Images").with_suffix("")
        try:
            listing.boxes[name] = read_box(path)
        except OSError:
            missing.append(name)
        except ValueError:
            broken.append(str(path.relative_to(listing.root)))
    if missing:
        listing.add_problem(
            f"{len(missing)} images have no annotation: {abbreviate(missing)}",
            "unpack annotation.tar again, or remove the images",
        )
    if broken:
        listing.add_problem(
            f"{len(broken)} annotations have no bounding box: {abbreviate(broken)}",
            "unpack annotation.tar again",
        )


def add_surplus_annotations(listing: Listing) -> None:
    """Account for every entry of ``Annotation``; report those without an image as a problem."""
    stems = {str(Path(name).relative_to("Images").with_suffix("")) for name in listing.names}
    surplus: list[str] = []
    for breed in folders(listing, "Annotation"):
        for name, kind in scan(listing, f"Annotation/{breed}").items():
            if kind is Kind.FILE and not is_hidden(name):
                path = f"Annotation/{breed}/{name}"
                listing.accounted.add(path)
                if f"{breed}/{name}" not in stems:
                    surplus.append(path)
    if surplus:
        listing.add_problem(
            f"{len(surplus)} annotations have no image: {abbreviate(sorted(surplus))}",
            "unpack images.tar again, or remove the annotations",
        )


def read_box(path: Path) -> Box:
    """Read the first bounding box of an annotation: left, top, right, bottom in pixels.

    Raises:
        OSError: the file cannot be read.
        ValueError: it has no box, or an empty one.
    """
    try:
        tree = ElementTree.fromstring(path.read_bytes())
        left, top, right, bottom = (int(tree.findtext(f".//bndbox/{side}", "")) for side in SIDES)
    except (ElementTree.ParseError, LookupError) as error:  # LookupError: its encoding
        raise ValueError(str(error)) from error
    if not (left < right and top < bottom):
        raise ValueError(f"the box {(left, top, right, bottom)} is empty")
    return left, top, right, bottom
