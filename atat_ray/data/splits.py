"""Split a dataset into private and public people, and training and test images."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atat_ray.data.stored_images import StoredImages, take
from atat_ray.utils.device import to_device


@dataclass(frozen=True, kw_only=True, slots=True)
class Faces:
    """Images with their labels.

    Attributes:
        images: (N, C, H, W) float32 in [0, 1], or stored images that are read when indexed.
        labels: (N,) long.
    """

    images: Tensor | StoredImages
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> "Faces":
        """Move both to a device."""
        return Faces(images=self.images.to(device), labels=self.labels.to(device))

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Read images and labels of some rows, given on the CPU, to the device of the labels."""
        there = to_device(rows, self.labels.device)
        stored = isinstance(self.images, StoredImages)  # its rows are selected on the CPU
        return self.images[rows if stored else there], self.labels[there]


@dataclass(frozen=True, kw_only=True, slots=True)
class IdentitySplit:
    """A dataset divided into private people, whose model is attacked, and public people.

    Attributes:
        train: training images of the private people, labels 0..num_classes-1, possibly permuted.
        recognised: the same images with the true labels; evaluation models learn these.
        test: test images of the private people, with the true labels.
        public: images of the public people, which are in no training set; a prior may see them.
        people: (num_classes,) the person of each label.
        names: the name of each label's person, by which reports name the class.
    """

    train: Faces
    recognised: Faces
    test: Faces
    public: Faces
    people: Tensor
    names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Count the private people."""
        return len(self.people)


def count_train(images: int, num_train: int | None, train_share: float | None) -> int:
    """Compute the training images of a person with ``images`` images.

    It is ``num_train`` if given. Otherwise it is the rounded share, with at least one image left
    for training and one for testing.

    >>> count_train(10, 7, None), count_train(10, None, 0.75), count_train(3, None, 0.99)
    (7, 8, 2)
    """
    if num_train is not None:
        return num_train
    assert train_share is not None, "Data requires one of the two"
    return min(max(1, round(train_share * images)), images - 1)


def check_counts(
    identities: Tensor,
    counts: Tensor,
    names: Sequence[str],
    num_private: int,
    num_train: int | None,
    *,
    all_private: bool,
) -> None:
    """Refuse numbers of people or images that a dataset does not have.

    Args:
        identities: (P,) all people.
        counts: (P,) images of each person.
        names: of the people, indexed by ``identities``.
        num_private: number of private people.
        num_train: training images of each private person, if given as a number.
        all_private: whether all people may be private.

    Raises:
        ValueError: there are not enough people or images.
    """
    most = len(identities) - (0 if all_private else 1)
    if not 0 < num_private <= most:
        reason = f"as there are {most} classes" if all_private else (
            f"so that some of the {len(identities)} people stay public"
        )  # fmt: skip
        raise ValueError(f"num_private must be in 1..{most} {reason}, got {num_private}")
    fewest = int(counts.min())
    name = names[int(identities[counts.argmin()])]
    if fewest < 2:
        raise ValueError(
            f"class {name} has one image but needs two, one to train on and one to test with; "
            "add images, or remove the class"
        )
    if num_train is not None and not 0 < num_train < fewest:
        raise ValueError(
            f"num_train must be in 1..{fewest - 1} so that every person keeps a test image "
            f"(class {name} has {fewest} images), got {num_train}"
        )


def split_identities(
    images: Tensor | StoredImages,
    people: Tensor,
    names: Sequence[str],
    *,
    split: int,
    num_private: int,
    num_train: int | None = None,
    train_share: float | None = None,
    all_private: bool = False,
) -> IdentitySplit:
    """Draw private people and, for each of them, training images; the others are public.

    The images of each person are divided separately, so that a split is stratified.

    Args:
        images: (N, C, H, W) in [0, 1].
        people: (N,) long, the person on each image.
        names: of the people.
        split: number of the split; its generator is seeded with 1000 + split.
        num_private: number of private people, labelled in the order of the draw.
        num_train: training images of each private person; the others are test images.
        train_share: share of each person's images that train, instead of ``num_train``.
        all_private: whether all people may be private.

    Raises:
        ValueError: there are not enough people or images.
    """
    identities = people.unique()
    counts = torch.stack([(people == person).sum() for person in identities])
    check_counts(identities, counts, names, num_private, num_train, all_private=all_private)
    generator = torch.Generator().manual_seed(1000 + split)
    order = identities[torch.randperm(len(identities), generator=generator)]
    private, public = order[:num_private], order[num_private:]
    train, test = [], []
    for person in private:
        rows = (people == person).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)]
        first = count_train(len(rows), num_train, train_share)
        train.append(rows[:first])
        test.append(rows[first:])

    def faces(groups: list[Tensor]) -> Faces:
        labels = [torch.full((len(rows),), label) for label, rows in enumerate(groups)]
        chosen = torch.cat(groups) if groups else people[:0]
        return Faces(images=take(images, chosen), labels=torch.cat(labels or [people[:0]]))

    return IdentitySplit(
        train=faces(train),
        recognised=faces(train),
        test=faces(test),
        public=faces([(people == person).nonzero().flatten() for person in public]),
        people=private,
        names=tuple(names[int(person)] for person in private),
    )


def permuted_labels(faces: Faces, *, split: int) -> Faces:
    """Permute the labels over the images, so that every label keeps its number of images.

    A model can learn them only by memorising images (the paper's experiment on rote memorisation).

    Args:
        faces: images with true labels.
        split: number of the split; its generator is seeded with 2000 + split.
    """
    generator = torch.Generator().manual_seed(2000 + split)
    order = torch.randperm(len(faces), generator=generator).to(faces.labels.device)
    return Faces(images=faces.images, labels=faces.labels[order])


FEW_PUBLIC = 64  # public images of a truncated split


def truncate(split: IdentitySplit, most: int) -> IdentitySplit:
    """Truncate a split to few images of all its people.

    Args:
        split: of a dataset.
        most: number of training and of test images to keep. Every person keeps one image before
            any person keeps two. Stored public images are truncated to at least FEW_PUBLIC.
    """

    def first(faces: Faces, number: int) -> Faces:
        earlier = torch.zeros(
            len(faces), dtype=torch.long
        )  # number of images of the same person before
        for label in faces.labels.unique():
            rows = (faces.labels == label).nonzero().flatten()
            earlier[rows] = torch.arange(len(rows))
        chosen = (earlier * (len(faces) + 1) + faces.labels).argsort(stable=True)[:number]
        return Faces(images=take(faces.images, chosen), labels=faces.labels[chosen])

    stored = isinstance(split.public.images, StoredImages) and len(split.public)
    return IdentitySplit(
        train=first(split.train, most),
        recognised=first(split.recognised, most),
        test=first(split.test, most),
        public=first(split.public, max(most, FEW_PUBLIC)) if stored else split.public,
        people=split.people,
        names=split.names,
    )
