"""Datasets, and the part of a unit's specification that names one."""

from dataclasses import dataclass, replace
from pathlib import Path

from atat_ray.data.image_cache import open_store
from atat_ray.data.readers.orl_faces import load_orl_faces
from atat_ray.data.readers.synthetic import EACH, made_images
from atat_ray.data.registry import DATASETS, LISTINGS, MADE
from atat_ray.data.splits import IdentitySplit, few, permuted_labels, split_identities
from atat_ray.utils.errors import unknown
from atat_ray.utils.option_fields import STRICT, later


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """Which dataset, and how its people are divided.

    Attributes:
        name: one of DATASETS.
        num_private: people whose model is attacked; the rest are public. Of a dataset in files all
            classes may be private, if the prior needs no public images.
        num_train: training images of each private person; the others test.
        size: side of the square images in pixels, a multiple of 16.
        root: folder of the files; the ORL faces are found in an installed package without.
        random_labels: whether the target model's training labels are shuffled over the images; the
            evaluation models still learn who is on each.
        train_share: instead of ``num_train``, share of each private person's images that train.
        skip_corrupt: leave out files that cannot be decoded; else they end the run.
        at_most: images that train, and that test, at most: for rehearsals. Of stored public images
            FEW_PUBLIC are left, or as many.
    """

    name: str
    num_private: int
    num_train: int | None = later(None)
    size: int
    root: str | None = None
    random_labels: bool = later(False)
    train_share: float | None = later(None)
    skip_corrupt: bool = later(False)
    at_most: int | None = later(None)

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if self.name not in DATASETS:
            raise unknown("dataset", self.name, DATASETS)
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
        if self.name in LISTINGS and self.root is None:
            raise ValueError(f"{self.name} needs root, the folder that holds its files")
        if self.name not in LISTINGS and self.skip_corrupt:
            raise ValueError(f"{self.name} ships whole: skip_corrupt would skip nothing; drop it")


def load_split(data: Data, split: int) -> IdentitySplit:
    """Load a dataset and divide its people by the number of a split.

    Raises:
        ValueError: a file cannot be read, or the dataset is too small for the numbers asked.
    """
    root = None if data.root is None else Path(data.root).expanduser()
    if data.name in LISTINGS:
        assert root is not None, "Data asks for it"
        listing = LISTINGS[data.name](root)
        images, people = open_store(listing, size=data.size, skip_corrupt=data.skip_corrupt)
    elif data.name == MADE:
        each = EACH if data.num_train is None else data.num_train + 1
        images, people = made_images(data.num_private, each=each, size=data.size)
    else:
        images, people = load_orl_faces(root, size=data.size)
    divided = split_identities(
        images,
        people,
        split=split,
        num_private=data.num_private,
        num_train=data.num_train,
        train_share=data.train_share,
        all_private=data.name != "orl_faces",
    )
    if data.random_labels:
        divided = replace(divided, train=permuted_labels(divided.train, split=split))
    return divided if data.at_most is None else few(divided, data.at_most)
