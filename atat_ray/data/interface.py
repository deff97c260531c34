"""The interface of a dataset: what a reader in ``atat_ray/data/readers`` provides.

A dataset is either loaded into memory at once (:class:`Reader`) or decoded from image files that
the user brings (:class:`FileReader`).
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from atat_ray.data.image_cache import manifest_of, open_store
from atat_ray.data.listing import Listing, expand
from atat_ray.data.stored_images import StoredImages

if TYPE_CHECKING:
    from atat_ray.data.dataset import Data


class Reader(ABC):
    """Read one dataset.

    Attributes:
        from_files: whether the images are files that the user brings. The folder ``root`` is then
            required, and ``skip_corrupt`` is allowed.
        all_private: whether every person may be private. If not, a split keeps one person public.
        num_published: images of the classes that are used, as published; None if not known. It
            stands for a count where the files are missing.
    """

    from_files: ClassVar[bool] = False
    all_private: ClassVar[bool] = True
    num_published: ClassVar[int | None] = None

    @abstractmethod
    def manifest(self, data: "Data") -> dict[str, str]:
        """Identify the images by the content of the files that are read.

        Returns:
            SHA-256 by file name (:func:`atat_ray.data.file_digests.digests_of`); empty for images
            that are computed.

        Raises:
            ValueError: a file is missing or cannot be read; the message says what to do.
        """

    @abstractmethod
    def load(self, data: "Data") -> tuple[Tensor | StoredImages, Tensor, list[str]]:
        """Load the images.

        Returns:
            images (N, C, size, size), float32 in [0, 1] when indexed; labels (N,) long; and the
            names of the classes, by which reports name them. A label is an index into the names.

        Raises:
            ValueError: a file is missing or cannot be read; the message says what to do.
        """


class FileReader(Reader):
    """Read a dataset of image files, which are decoded once into the image cache."""

    from_files = True

    @abstractmethod
    def list_files(self, root: Path) -> Listing:
        """List the image files in ``root`` with their labels; report problems in the listing."""

    def listing(self, data: "Data") -> Listing:
        """List the image files in the root that the options name."""
        assert data.root is not None, "Data requires the root of a dataset from files"
        return self.list_files(expand(data.root))

    def manifest(self, data: "Data") -> dict[str, str]:
        """Return the SHA-256 of each image file, and of all labels and boxes."""
        return manifest_of(self.listing(data))

    def load(self, data: "Data") -> tuple[StoredImages, Tensor, list[str]]:
        """Open the decoded images, (N, 3, size, size), with their labels and class names."""
        listing = self.listing(data)
        stored = open_store(listing, size=data.size, skip_corrupt=data.skip_corrupt)
        return *stored, listing.classes
