"""FaceScrub (Ng and Winkler 2014): 265 actors and 265 actresses, as shared on Kaggle.

Files are ``actor_faces/NAME/*.jpeg`` and ``actress_faces/NAME/*.jpeg``. Actors are classes 0..264.
"""

from pathlib import Path

from atat_ray.data.accounting import account, ignore_other_entries
from atat_ray.data.interface import FileReader
from atat_ray.data.listing import Listing, check_classes, folders, images, open_root, require

GROUPS = ("actor_faces", "actress_faces")
PEOPLE = 265  # in each group


class FaceScrub(FileReader):
    """FaceScrub, one class for each person."""

    num_published = 37_878  # as the code of PPA gives it

    def list_files(self, root: Path) -> Listing:
        """List FaceScrub: actors before actresses, each in the order of their names."""
        listing = open_root(root)
        if listing.problems:
            return listing
        for group in GROUPS:
            if not require(listing, group, advice=f"put the {PEOPLE} folders of {group} there"):
                continue
            people = folders(listing, group)
            for name in people:
                listing.add(f"{group}/{name}", images(listing, f"{group}/{name}"))
            if len(people) != PEOPLE:
                listing.add_problem(
                    f"{group} has {len(people)} of {PEOPLE} people",
                    f"unpack {group} again; for a part of the dataset use image_folder on that "
                    "folder",
                )
        ignore_other_entries(listing, *GROUPS)
        return account(check_classes(listing))
