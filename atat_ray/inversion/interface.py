"""Which candidates a process searches, and what an attack returns of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from atat_ray.utils.seeding import PartDraws, generator


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconstructions:
    """What an inversion attack returns, ``keep`` for each class, classes in order, best first.

    Attributes:
        images: (C * keep, channels, H, W) in [0, 1].
        latents: (C * keep, ...), what was searched: latents, or the styles made of them.
        classes: (C * keep,) long, the target class.
        confidence: (C * keep,) the target model's probability of the target class.
    """

    images: Tensor
    latents: Tensor
    classes: Tensor
    confidence: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """Classes that are attacked together, as a part of all of them.

    Attributes:
        num_classes: C, of the target model.
        part: classes that follow each other.
        seed: of everything drawn; a part sees the draws that it would see in the whole.
        device: of the target model.
        shared: what parts in one process find once, by the name of the draws: for each class the
            rows of the samples that its candidates start from, (C, candidates).
    """

    num_classes: int
    part: Sequence[int]
    seed: int
    device: torch.device
    shared: dict[str, Tensor] = field(default_factory=dict)

    def labels(self, candidates: int) -> Tensor:
        """Give the class of each candidate, (len(part) * candidates,) long."""
        classes = torch.arange(self.part[0], self.part[-1] + 1, device=self.device)
        return classes.repeat_interleave(candidates)

    def batches(self, candidates: int, size: int | None) -> Iterator[slice]:
        """Cut the candidates of the part into batches of ``size`` rows; one if not given."""
        total = len(self.part) * candidates
        for first in range(0, total, size or total):
            yield slice(first, min(first + (size or total), total))

    def draws(self, name: str, candidates: int, rows: slice | None = None) -> PartDraws:
        """Make the draws of a step for some rows of the part, all if not given."""
        first, end = self.part[0] * candidates, (self.part[-1] + 1) * candidates
        if rows is not None:
            first, end = first + rows.start, first + rows.stop
        total = self.num_classes * candidates
        return PartDraws(generator(self.seed, name), rows=slice(first, end), total=total)
