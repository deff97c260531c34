"""Select a dataset by name and divide its people into private and public."""

import os
from dataclasses import dataclass, replace

from atat_ray.data.listing import expand
from atat_ray.data.registry import DATASETS
from atat_ray.data.splits import IdentitySplit, permuted_labels, split_identities, truncate
from atat_ray.utils.option_fields import STRICT, path_option


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """Select a dataset and say how its people are divided.

    Attributes:
        name: a key of DATASETS.
        num_private: people whose model is attacked; the rest are public. Where the reader allows
            it, all people may be private, if the prior needs no public images.
        num_train: training images of each private person; their other images are test images.
        size: side of the square images in pixels, a multiple of 16.
        root: folder of the files; None for a dataset that needs none. The ORL faces are found in
            an installed package.
        random_labels: whether the training labels of the target model are shuffled over the images.
            The evaluation models still learn the true labels.
        train_share: share of each private person's images that train, instead of ``num_train``.
        skip_corrupt: leave out files that cannot be decoded; otherwise they are an error.
        at_most: largest number of training images and of test images, for rehearsals. Public images
            from files are then reduced to FEW_PUBLIC, or to ``at_most`` if that is more.
    """

    name: str
    num_private: int
    num_train: int | None = None
    size: int
    root: str | None = path_option(None)
    random_labels: bool = False
    train_share: float | None = None
    skip_corrupt: bool = False
    at_most: int | None = None

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        reader = DATASETS.find(self.name)
        self.check_numbers()
        if reader.from_files and self.root is None:
            raise ValueError(f"{self.name} needs root, the folder that holds its files")
        if self.skip_corrupt and not reader.from_files:
            raise ValueError(
                f"skip_corrupt is for datasets of image files, which {self.name} is not; drop it"
            )

    def check_numbers(self) -> None:
        """Refuse numbers that no dataset can satisfy.

        Raises:
            ValueError: a size, count or share is out of range.
        """
        if self.size < 32 or self.size % 16:
            raise ValueError(f"size must be a multiple of 16 and at least 32, got {self.size}")
        if self.num_private < 2 or (self.num_train is not None and self.num_train < 1):
            raise ValueError(
                "num_private must be 2 or more and num_train 1 or more, "
                f"got {self.num_private} and {self.num_train}"
            )
        if (self.num_train is None) == (self.train_share is None):
            raise ValueError(
                "give num_train, a number of images of each person, or train_share, a share of "
                f"them; got {self.num_train} and {self.train_share}"
            )
        if self.train_share is not None and not 0 < self.train_share < 1:
            raise ValueError(f"train_share must be in (0, 1), got {self.train_share:g}")
        if self.at_most is not None and self.at_most < 2:
            raise ValueError(f"at_most must be 2 images or more, got {self.at_most}")


def folder_is_missing(data: Data) -> bool:
    """Tell whether a dataset of image files lacks its folder."""
    from_files = DATASETS[data.name].from_files
    return from_files and not os.path.exists(expand(data.root or ""))


def data_manifest(data: Data) -> dict[str, str]:
    """Identify a dataset by the SHA-256 of each file that is read; empty if images are computed.

    Raises:
        ValueError: a file is missing or cannot be read.
    """
    return DATASETS[data.name]().manifest(data)


def load_split(data: Data, split: int) -> IdentitySplit:
    """Load a dataset and divide its people by the number of a split.

    Raises:
        ValueError: a file cannot be read, or the dataset is too small for the numbers given.
    """
    reader = DATASETS[data.name]()
    images, people, names = reader.load(data)
    divided = split_identities(
        images,
        people,
        names,
        split=split,
        num_private=data.num_private,
        num_train=data.num_train,
        train_share=data.train_share,
        all_private=reader.all_private,
    )
    if data.random_labels:
        divided = replace(divided, train=permuted_labels(divided.train, split=split))
    return divided if data.at_most is None else truncate(divided, data.at_most)
