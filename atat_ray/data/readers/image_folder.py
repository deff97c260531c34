"""Any dataset with one folder of images for each class."""

from pathlib import Path

from atat_ray.data.accounting import account, count_images, describe_nested
from atat_ray.data.interface import FileReader
from atat_ray.data.listing import (
    Listing,
    check_classes,
    folders,
    images,
    is_image,
    open_root,
    scan,
    shown,
)


class ImageFolder(FileReader):
    """Images in ``root/CLASS/IMAGE``."""

    def list_files(self, root: Path) -> Listing:
        """List ``root/CLASS/IMAGE``, classes and images in the order of their names."""
        listing = open_root(root)
        if listing.problems:
            return listing
        found = {name: images(listing, name) for name in folders(listing)}
        nested = [
            n for n, own in found.items() if not own and count_images(root / n).keys() - {"."}
        ]
        for name, own in found.items():
            if name not in nested:
                listing.add(name, own)
        if nested:
            describe_nested(listing, nested)
        elif len(listing.classes) < 2:
            add_too_few(listing)
        return account(check_classes(listing))


def add_too_few(listing: Listing) -> None:
    """Add a problem for a root with fewer than two folders of classes."""
    advice = "give the folder that holds one folder for each class"
    if any(is_image(name) for name in scan(listing, "")):
        above = shown(listing.root.absolute().parent)
        advice += f"; if these images are one class, that is {above}"
    listing.add_problem(
        f"{shown(listing.root)} has {len(listing.classes)} class folders, and a classifier needs 2",
        advice,
    )
