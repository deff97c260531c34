"""Smoothing of the attacked network: its mean probability over random copies of each image.

A defense that makes gradients rough hinders an attack without hiding anything. Averaging over
copies removes that hindrance.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import inf, log, pi
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from atat_ray.data.augmentation import resample
from atat_ray.inversion.random_crops import draw_crops
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import BatchDraws

SEEDS = 2**62  # number of seeds from which that of a copy's noise is drawn


@dataclass(frozen=True, kw_only=True, slots=True)
class Smoothing:
    """Options of smoothing: how many copies of an image are averaged, and how they are made.

    The presets ``paa`` and ``taa`` have the settings of perturbation-averaged and
    transformation-averaged alignment (AlignMI). AlignMI averages the gradients of the loss of the
    copies; here the loss is that of their mean probability.

    Attributes:
        copies: copies of each image, new ones at each call; 1 or more.
        noise: standard deviation of the Gaussian noise added to each pixel, in pixel units (images
            in [0, 1]); a noisy image is not clamped.
        crop_area: (least, largest) share of the image kept by the random crop of a copy.
        flip: whether each copy is mirrored with probability 1/2.
        rotation: largest angle of a copy in degrees, 0 to 180; drawn uniformly in both directions.
    """

    copies: int
    noise: float = 0.0
    crop_area: tuple[float, float] = (1.0, 1.0)
    flip: bool = False
    rotation: float = 0.0

    __pydantic_config__ = STRICT
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"copies": 4, "noise": 0.05},
        "paa": {"copies": 50, "noise": 0.05},
        "taa": {"copies": 50, "crop_area": (0.8, 1.0), "flip": True, "rotation": 5.0},
    }

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise ValueError(f"copies must be 1 or more, got {self.copies}")
        if not 0 <= self.noise < inf:
            raise ValueError(
                f"noise is a standard deviation of 0 or above in pixel units, got {self.noise:g}"
            )
        low, high = self.crop_area
        if not 0 < low <= high <= 1:
            raise ValueError(
                f"crop_area must be (least, largest) shares of the image in (0, 1], "
                f"got {low:g}, {high:g}"
            )
        if not 0 <= self.rotation <= 180:
            raise ValueError(
                f"rotation is an angle in degrees between 0 and 180, got {self.rotation:g}"
            )
        if not (self.noise or self.warps):
            raise ValueError(
                "smoothing without noise, crop_area, flip or rotation averages equal copies; "
                "give one of them, or drop smoothing"
            )

    @property
    def warps(self) -> bool:
        """Tell whether copies are cropped, mirrored or rotated."""
        return self.crop_area != (1.0, 1.0) or self.flip or self.rotation > 0


class Smoothed(nn.Module):
    """Map images to the log of a network's mean probability over random copies of each image.

    The draws of an image are its own, so that a result does not depend on the images beside it.
    Copies are computed a few at a time where memory is limited; their intermediate results are
    then computed again in the backward pass.

    Args:
        network: images (N, C, H, W) to logits (N, K).
        options: how copies are made.
        batch: images in memory at a time; all copies of all images if None.
    """

    def __init__(self, network: nn.Module, options: Smoothing, batch: int | None) -> None:
        super().__init__()
        self.network, self.options, self.batch = network, options, batch

    def copies_at_once(self, num_images: int) -> int:
        """Count the copies of each image that are in memory together."""
        copies = self.options.copies
        return copies if self.batch is None else min(copies, max(1, self.batch // num_images))

    def in_memory(self, num_images: int) -> "Smoothed":
        """Return a network of as many copies as this one has in memory together."""
        fewer = replace(self.options, copies=self.copies_at_once(num_images))
        return Smoothed(self.network, fewer, None)

    def forward(self, images: Tensor, draws: BatchDraws) -> Tensor:
        """Map images (N, C, H, W) to log probabilities (N, K)."""
        made = [self.draw(images, draws) for _ in range(self.options.copies)]
        size = self.copies_at_once(len(images))
        chunks = [made[first : first + size] for first in range(0, len(made), size)]
        if len(chunks) == 1:
            total = self.total(images, made)
        else:
            totals = [self.total_again(images, chunk) for chunk in chunks]
            total = torch.stack(totals).logsumexp(0)
        return total - log(self.options.copies)

    def draw(self, images: Tensor, draws: BatchDraws) -> tuple[Tensor | None, list[int]]:
        """Draw one copy of each image: affine matrices (N, 2, 3), or None, and seeds of noise."""
        options, matrices, seeds = self.options, None, []
        if options.warps:
            matrices = draw_crops(images, draws, area=options.crop_area, flip=options.flip)
            limit = options.rotation * pi / 180
            angle = draws.uniform(-limit, limit, images)
            cos, sin = angle.cos(), angle.sin()
            turn = torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)
            matrices = torch.cat([matrices[:, :, :2] @ turn, matrices[:, :, 2:]], dim=2)
        if options.noise:
            seeds = draws.integers(0, SEEDS, images).tolist()
        return matrices, seeds

    def copy(self, images: Tensor, made: tuple[Tensor | None, list[int]]) -> Tensor:
        """Make one copy of each image from what was drawn for it."""
        matrices, seeds = made
        copies = images if matrices is None else resample(images, matrices)
        if not seeds:
            return copies
        one = partial(torch.randn, images.shape[1:], device=images.device, dtype=images.dtype)
        source = torch.Generator(images.device)
        noise = torch.stack([one(generator=source.manual_seed(seed)) for seed in seeds])
        return copies + self.options.noise * noise

    def total(self, images: Tensor, made: list[tuple[Tensor | None, list[int]]]) -> Tensor:
        """Compute the log of the sum of the probabilities of some copies, (N, K)."""
        copies = torch.cat([self.copy(images, one) for one in made])
        found = self.network(copies).log_softmax(1)
        return found.view(len(made), len(images), -1).logsumexp(0)

    def total_again(self, images: Tensor, made: list[tuple[Tensor | None, list[int]]]) -> Tensor:
        """Compute :meth:`total`; its intermediate results are recomputed when they are needed."""
        sources = own_generators(self.network)
        seeds = [int(torch.randint(SEEDS, (), generator=source)) for source in sources]

        def compute(images: Tensor) -> Tensor:
            with reseeded(sources, seeds):
                return self.total(images, made)

        if not torch.is_grad_enabled():
            return compute(images)
        found = checkpoint(compute, images, use_reentrant=False, preserve_rng_state=False)
        assert isinstance(found, Tensor)
        return found


def own_generators(network: nn.Module) -> list[torch.Generator]:
    """List the generators of a network's layers, such as those of an information bottleneck."""
    found = (getattr(module, "generator", None) for module in network.modules())
    return [source for source in found if isinstance(source, torch.Generator)]


@contextmanager
def reseeded(sources: list[torch.Generator], seeds: list[int]) -> Iterator[None]:
    """Seed generators inside the block and restore their states afterwards."""
    states = [source.get_state() for source in sources]
    for source, seed in zip(sources, seeds, strict=True):
        source.manual_seed(seed)
    try:
        yield
    finally:
        for source, state in zip(sources, states, strict=True):
            source.set_state(state)


def logits_of(network: nn.Module, images: Tensor, draws: BatchDraws) -> Tensor:
    """Run an attacked network on images (N, C, H, W); only a smoothed one uses the draws."""
    return network(images, draws) if isinstance(network, Smoothed) else network(images)
