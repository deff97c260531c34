"""Datasets, and the part of a unit's specification that names one."""

from dataclasses import dataclass, replace
from pathlib import Path

from atat_ray.data.orl_faces import load_orl_faces
from atat_ray.data.splits import Faces, IdentitySplit, permuted_labels, split_identities
from atat_ray.names import unknown
from atat_ray.options import STRICT, later

DATASETS = {"orl_faces": load_orl_faces}

__all__ = ["DATASETS", "Data", "Faces", "IdentitySplit", "load_split"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """Which dataset, and how its people are divided.

    Attributes:
        name: a key of DATASETS.
        num_private: people whose model is attacked; the rest are public.
        num_train: training images of each private person; the others test.
        size: side of the square images in pixels, a multiple of 16.
        root: folder of the files; the one that the installed package ships if not given.
        random_labels: whether the target model's training labels are shuffled over the images; the
            evaluation models still learn who is on each.
    """

    name: str
    num_private: int
    num_train: int
    size: int
    root: str | None = None
    random_labels: bool = later(False)

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if self.name not in DATASETS:
            raise unknown("dataset", self.name, DATASETS)
        if self.size < 32 or self.size % 16:
            raise ValueError(f"size must be a multiple of 16 and at least 32, got {self.size}")
        if self.num_private < 2 or self.num_train < 1:
            raise ValueError(
                "num_private must be 2 or more and num_train 1 or more, "
                f"got {self.num_private} and {self.num_train}"
            )


def load_split(data: Data, split: int) -> IdentitySplit:
    """Load a dataset and divide its people by the number of a split.

    Raises:
        ValueError: a file cannot be read, or the dataset is too small for the numbers asked.
    """
    root = None if data.root is None else Path(data.root).expanduser()
    images, people = DATASETS[data.name](root, size=data.size)
    divided = split_identities(
        images, people, split=split, num_private=data.num_private, num_train=data.num_train
    )
    if not data.random_labels:
        return divided
    return replace(divided, train=permuted_labels(divided.train, split=split))
