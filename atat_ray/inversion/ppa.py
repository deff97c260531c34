"""Plug & Play Attacks (Struppek et al. 2022): search a prior's latents for faces of each class."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from atat_ray.data.transforms import random_resized_crop
from atat_ray.inversion.losses import poincare_loss
from atat_ray.inversion.selection import initial_candidates, robust_confidence
from atat_ray.options import STRICT, later
from atat_ray.priors import Prior
from atat_ray.seeding import BatchDraws, PartDraws, generator


@dataclass(frozen=True, kw_only=True, slots=True)
class Ppa:
    """Budget and settings of the attack.

    Attributes:
        samples: latents drawn to choose candidates from, shared by all classes.
        candidates: latents optimised for each class.
        steps: of Adam.
        learning_rate: of Adam.
        betas: of Adam; PPA uses (0.1, 0.1).
        crop_area: share of the image kept by the random crop of each step, one crop a candidate.
        latent_limit: latents are clamped to [-limit, limit] after each step.
        keep: reconstructions kept for each class by the final selection.
        views: random views that the final selection scores a reconstruction on.
        view_area: share of the image in these views.
        batch_classes: classes attacked at a time, for the memory of a device; all if not given. A
            part of the attack that is kept, and that another process may do, is one such batch.
    """

    samples: int
    candidates: int
    steps: int
    learning_rate: float
    betas: tuple[float, float]
    crop_area: tuple[float, float]
    latent_limit: float
    keep: int
    views: int
    view_area: tuple[float, float]
    batch_classes: int | None = later(None)

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not 1 <= self.keep <= self.candidates <= self.samples:
            raise ValueError(
                "1 <= keep <= candidates <= samples must hold, "
                f"got keep {self.keep}, candidates {self.candidates}, samples {self.samples}"
            )
        if self.steps < 0 or self.views < 1:
            raise ValueError(
                f"steps must be 0 or more and views 1 or more, got {self.steps} and {self.views}"
            )
        if self.batch_classes is not None and self.batch_classes < 1:
            raise ValueError(f"batch_classes must be 1 or more, got {self.batch_classes}")
        if not self.learning_rate > 0 or not self.latent_limit > 0:
            raise ValueError(
                "learning_rate and latent_limit must be above 0, "
                f"got {self.learning_rate:g} and {self.latent_limit:g}"
            )
        for name in ("crop_area", "view_area"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 1:
                raise ValueError(
                    f"{name} is (least, largest) share of the image in (0, 1], got {low}, {high}"
                )

    def least(self) -> "Ppa":
        """Give the budget that takes every step once, on one candidate of one class."""
        once = dict.fromkeys(("samples", "candidates", "keep", "batch_classes"), 1)
        return replace(self.once(), **once)

    def once(self) -> "Ppa":
        """Give the budget that takes every step once, on as many images at a time as this one."""
        return replace(self, steps=min(self.steps, 1), views=1)

    def parts(self, num_classes: int) -> list[range]:
        """Divide the classes into those that are attacked at a time."""
        step = self.batch_classes or num_classes
        return [range(c, min(c + step, num_classes)) for c in range(0, num_classes, step)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconstructions:
    """What an inversion attack returns, ``keep`` for each class, classes in order, best first.

    Attributes:
        images: (C * keep, channels, H, W) in [0, 1].
        latents: (C * keep, D).
        classes: (C * keep,) long, the target class.
        confidence: (C * keep,) the target model's probability of the target class.
    """

    images: Tensor
    latents: Tensor
    classes: Tensor
    confidence: Tensor


def optimize(
    target: nn.Module, prior: Prior, latents: Tensor, classes: Tensor, ppa: Ppa, draws: BatchDraws
) -> Tensor:
    """Minimise the Poincare loss over latents with Adam, each candidate for itself: (N, D)."""
    latents = latents.clone().requires_grad_()
    optimizer = torch.optim.Adam([latents], lr=ppa.learning_rate, betas=ppa.betas)
    for _ in range(ppa.steps):
        images = random_resized_crop(prior.synthesize(latents), draws, area=ppa.crop_area)
        loss = poincare_loss(target(images), classes).sum()
        (latents.grad,) = torch.autograd.grad(loss, latents)
        optimizer.step()
        with torch.no_grad():
            latents.clamp_(-ppa.latent_limit, ppa.latent_limit)
    return latents.detach()


def invert(
    target: nn.Module,
    prior: Prior,
    num_classes: int,
    ppa: Ppa,
    *,
    seed: int,
    part: Sequence[int] | None = None,
) -> Reconstructions:
    """Attack classes of a target model.

    Args:
        target: images in [0, 1] to (N, C) logits; attacked in evaluation mode.
        prior: the image generator whose latents are searched.
        num_classes: C.
        ppa: budget and settings.
        seed: of everything drawn here.
        part: classes that follow each other, all if not given; they see the draws that they would
            see if all were attacked at once.
    """
    target.eval()
    part = range(num_classes) if part is None else part
    device = next(target.parameters()).device
    samples = prior.sample_latents(ppa.samples, generator(seed, "samples")).to(device)
    samples = samples.clamp(-ppa.latent_limit, ppa.latent_limit)
    chosen = initial_candidates(target, prior.synthesize, samples, ppa.candidates)
    rows = slice(part[0] * ppa.candidates, (part[-1] + 1) * ppa.candidates)
    classes = torch.arange(num_classes, device=device).repeat_interleave(ppa.candidates)[rows]

    def draws(name: str) -> BatchDraws:
        total = num_classes * ppa.candidates
        return PartDraws(generator(seed, name), rows=rows, total=total)

    latents = optimize(target, prior, chosen.flatten(0, 1)[rows], classes, ppa, draws("steps"))
    with torch.no_grad():
        images = prior.synthesize(latents)
    score = robust_confidence(
        target, images, classes, draws("views"), views=ppa.views, area=ppa.view_area
    )
    order = score.view(len(part), ppa.candidates).argsort(dim=1, descending=True, stable=True)
    first = torch.arange(len(part), device=device)[:, None] * ppa.candidates
    best = (order[:, : ppa.keep] + first).flatten()
    images, classes = images[best], classes[best]
    with torch.no_grad():
        confidence = target(images).softmax(1).gather(1, classes[:, None]).flatten()
    return Reconstructions(
        images=images, latents=latents[best], classes=classes, confidence=confidence
    )
