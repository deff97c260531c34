"""Any dataset with one folder of images for each class."""

from pathlib import Path

from atat_ray.data.interface import FileReader
from atat_ray.data.listing import Listing, check_classes, folders, images, open_root


class ImageFolder(FileReader):
    """Images in ``root/CLASS/IMAGE``."""

    def list_files(self, root: Path) -> Listing:
        """List ``root/CLASS/IMAGE``, classes and images in the order of their names."""
        listing = open_root(root)
        if listing.problems:
            return listing
        for name in folders(listing):
            listing.add(name, images(listing, name))
        if len(listing.classes) < 2:
            listing.add_problem(
                f"{root} has {len(listing.classes)} class folders, and a classifier needs 2",
                "give the folder that holds one folder for each class",
            )
        return check_classes(listing)
