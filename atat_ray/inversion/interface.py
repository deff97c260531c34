"""Interface of an inversion attack: its options, the classes to attack, and what it returns."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from atat_ray.inversion.budget import Budget
from atat_ray.priors import Prior
from atat_ray.utils.option_fields import preset_options
from atat_ray.utils.seeding import PartDraws, generator


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconstructions:
    """Result of an inversion attack: ``keep`` images of each class, classes in order, best first.

    Attributes:
        images: (C * keep, channels, H, W) in [0, 1].
        latents: (C * keep, ...), the optimised tensor: latents, or the styles computed from them.
        classes: (C * keep,) long, the target class.
        confidence: (C * keep,), the target model's probability of the target class.
    """

    images: Tensor
    latents: Tensor
    classes: Tensor
    confidence: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """Classes that are attacked together: all of them or a part.

    Attributes:
        num_classes: C, number of classes of the target model.
        part: classes to attack, in rising order.
        seed: seed of all draws; a part uses the draws that it would use in the whole attack.
        device: device of the target model.
        shared: results that the parts run in one process share, by the name of the draws: for each
            class the rows of the samples that its candidates start from, (C, candidates).
    """

    num_classes: int
    part: Sequence[int]
    seed: int
    device: torch.device
    shared: dict[str, Tensor] = field(default_factory=dict)

    def labels(self, candidates: int) -> Tensor:
        """Return the class of each candidate, (len(part) * candidates,) long."""
        return torch.tensor(self.part, device=self.device).repeat_interleave(candidates)

    def batches(self, candidates: int, size: int | None) -> Iterator[slice]:
        """Divide the candidates of the part into batches of ``size`` rows; one batch if None."""
        total = len(self.part) * candidates
        for first in range(0, total, size or total):
            yield slice(first, min(first + (size or total), total))

    def draws(self, name: str, candidates: int, rows: slice | None = None) -> PartDraws:
        """Make the random draws of a step for some rows of the part; for all rows if None."""
        first = torch.tensor(self.part)[:, None] * candidates
        every = (first + torch.arange(candidates)).flatten()
        return PartDraws(
            generator(self.seed, name),
            rows=every if rows is None else every[rows],
            total=self.num_classes * candidates,
        )


def count_bytes(tensors: Iterable[Tensor]) -> int:
    """Count the bytes of tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@dataclass(frozen=True, kw_only=True, slots=True)
class Attack(Budget, ABC):
    """An inversion attack: a frozen dataclass of options that can search a prior.

    A subclass defines ``search`` and ``steps_per_class``, and ``with_one_step`` if it has more
    options that count steps.

    Attributes:
        presets: named settings by name, each a dictionary of options.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    @classmethod
    def from_preset(cls, name: str, **options: Any) -> Self:
        """Build the attack from a preset, with some of its options replaced.

        Raises:
            ValueError: there is no such preset, or an option is invalid.
        """
        return cls(**{**preset_options(cls, name), **options})

    @abstractmethod
    def search(self, target: nn.Module, prior: Prior, scope: Scope) -> Reconstructions:
        """Attack the classes of a scope.

        Args:
            target: images in [0, 1] to (N, C) logits, in evaluation mode.
            prior: image generator to search.
            scope: classes to attack, and the seed.

        Raises:
            ValueError: the prior lacks what the attack needs.
        """

    def needs(self) -> tuple[str, ...]:
        """List what the prior must offer; see ``PriorOptions.offers``."""
        return ()

    @abstractmethod
    def steps_per_class(self) -> int:
        """Count the optimisation steps that a class takes, summed over its candidates."""

    def views_per_class(self) -> int:
        """Count the images that the final selections of a class score."""
        return self.candidates * self.views

    def num_scored_samples(self, num_classes: int) -> int:
        """Count the samples that one process scores to choose the candidates of all classes."""
        return self.samples

    def held_bytes(self, prior: Prior, num_classes: int, image_bytes: int) -> int:
        """Count the bytes that are held until a part ends, beside those of a batch's step.

        Args:
            prior: prior to search.
            num_classes: number of classes of a part.
            image_bytes: size of a framed image.
        """
        return num_classes * self.candidates * image_bytes

    def with_one_step(self) -> Self:
        """Return the attack with each kind of step taken once, on as many images at a time."""
        return replace(self, views=1)

    def minimal(self) -> Self:
        """Return the attack with each kind of step taken once, on one candidate of one class."""
        return replace(self.with_one_step(), samples=1, candidates=1, keep=1, batch_classes=1)
