"""Which people are private, which are public, and which images train."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Faces:
    """Images with their labels.

    Attributes:
        images: (N, C, H, W) float32 in [0, 1].
        labels: (N,) long.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> "Faces":
        """Move both to a device."""
        return Faces(images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, kw_only=True, slots=True)
class IdentitySplit:
    """A dataset cut into private people, whose model is attacked, and public people.

    Attributes:
        train: training images of the private people, labels 0..num_classes-1; who is on them,
            unless the labels were permuted.
        recognised: the same images, labelled by who is on them: what evaluation models learn.
        test: their test images, same labels.
        public: images of the public people, in nobody's training set: what a prior may see.
        people: (num_classes,) the person behind each label.
    """

    train: Faces
    recognised: Faces
    test: Faces
    public: Faces
    people: Tensor

    @property
    def num_classes(self) -> int:
        """Count the private people."""
        return len(self.people)


def split_identities(
    images: Tensor, people: Tensor, *, split: int, num_private: int, num_train: int
) -> IdentitySplit:
    """Draw private people and, for each, training images; the rest of the people are public.

    Args:
        images: (N, C, H, W) in [0, 1].
        people: (N,) long, the person on each image.
        split: number of the split; its generator is seeded with 1000 + split.
        num_private: private people, labelled in the order of the draw.
        num_train: training images of each; the others test.

    Raises:
        ValueError: not enough people or images.
    """
    identities = people.unique()
    counts = torch.stack([(people == person).sum() for person in identities])
    if not 0 < num_private < len(identities):
        raise ValueError(
            f"num_private must be in 1..{len(identities) - 1} so that some of the "
            f"{len(identities)} people stay public, got {num_private}"
        )
    if not 0 < num_train < int(counts.min()):
        raise ValueError(
            f"num_train must be in 1..{int(counts.min()) - 1} so that every person keeps a "
            f"test image, got {num_train}"
        )
    generator = torch.Generator().manual_seed(1000 + split)
    order = identities[torch.randperm(len(identities), generator=generator)]
    private, public = order[:num_private], order[num_private:]
    train, test = [], []
    for person in private:
        rows = (people == person).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)]
        train.append(rows[:num_train])
        test.append(rows[num_train:])

    def faces(groups: list[Tensor]) -> Faces:
        labels = [torch.full((len(rows),), label) for label, rows in enumerate(groups)]
        return Faces(images=images[torch.cat(groups)], labels=torch.cat(labels))

    return IdentitySplit(
        train=faces(train),
        recognised=faces(train),
        test=faces(test),
        public=faces([(people == person).nonzero().flatten() for person in public]),
        people=private,
    )


def permuted_labels(faces: Faces, *, split: int) -> Faces:
    """Shuffle labels over the images, one for each: as many of every label, and no meaning.

    Whoever learns them learns images by heart (the paper's experiment on rote memorisation).

    Args:
        faces: images with true labels.
        split: number of the split; its generator is seeded with 2000 + split.
    """
    generator = torch.Generator().manual_seed(2000 + split)
    order = torch.randperm(len(faces), generator=generator).to(faces.labels.device)
    return Faces(images=faces.images, labels=faces.labels[order])
