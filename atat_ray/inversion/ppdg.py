"""PPDG (Peng et al. 2024, "Pseudo-Private Data Guided Model Inversion Attacks"), point-wise.

What a first inversion finds of a class stands for its private images, and the prior is tuned so
that it makes them near its centre, where a second inversion looks first.
"""

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from atat_ray.inversion.budget import PAPER, QUICK
from atat_ray.inversion.interface import Reconstructions, Scope
from atat_ray.inversion.optimization import Make, first_state
from atat_ray.inversion.ppa import Ppa
from atat_ray.priors import Prior, State
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import generator

COARSEST = 8  # pixels a side


def unlikeness(images: Tensor, others: Tensor) -> Tensor:
    """Compute the mean over scales of the absolute differences of pixels and of edges, (N,).

    Each scale halves the one before by averaging. PPDG (Peng et al. 2024) takes LPIPS, which needs
    a VGG trained on ImageNet; the target model's own features would carry its adversarial
    directions into the prior, which is what pixels cannot.

    Args:
        images: (N, C, H, W) in [0, 1].
        others: of the same shape.
    """
    gap, total, scales = images - others, torch.zeros(len(images), device=images.device), 0
    while True:
        edges = (gap.diff(dim=2), gap.diff(dim=3))
        total = total + sum(part.abs().mean(dim=(1, 2, 3)) for part in (gap, *edges))
        scales += 1
        if min(gap.shape[2:]) < 2 * COARSEST:
            return total / scales
        gap = avg_pool2d(gap, 2)


CENTER = 600  # samples whose mean is the centre, as in the paper's code


@dataclass(frozen=True, kw_only=True, slots=True)
class Ppdg(Ppa):
    """Budget and settings of the attack, beside those of PPA, which each round is.

    From the prior as it is given, for each class: invert, take the best reconstructions as
    pseudo-private images, find a pivot for each, tune the prior until it makes them of the pivots,
    and invert again. What the last round finds is reported. Its latents are those of a prior that
    is not kept. Unlike the paper, the distance between images is :func:`.unlikeness`, and pivots
    are found without noise and at a constant learning rate.

    Attributes:
        rounds: inversions of each class, one more than the prior is tuned.
        pseudo_private: reconstructions that the prior is tuned to.
        pivot_steps: of Adam, from the centre, in the search for the pivots.
        pivot_rate: its learning rate.
        pivot_limit: pivots stay so near the centre in every coordinate; free if null. The paper
            leaves them free, and its coarse pivots miss the images; the fine ones that a small
            prior allows would meet them, and leave nothing to tune.
        tuning_steps: of Adam on the weights of the prior.
        tuning_rate: its learning rate; if ``relative`` as a share of the mean magnitude of each
            weight tensor.
        relative: see there.
    """

    rounds: int
    pseudo_private: int
    pivot_steps: int
    pivot_rate: float
    pivot_limit: float | None
    tuning_steps: int
    tuning_rate: float
    relative: bool = True

    __pydantic_config__ = STRICT
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {
            **QUICK, "steps": 30, "rounds": 2, "pseudo_private": 4,
            "pivot_steps": 30, "pivot_rate": 0.1, "pivot_limit": 0.5,
            "tuning_steps": 30, "tuning_rate": 0.02,
        },
        "paper": {
            **PAPER, "samples": 500, "candidates": 100, "keep": 100, "steps": 35,
            "space": "styles", "rounds": 2, "pseudo_private": 5,
            "pivot_steps": 300, "pivot_rate": 0.01, "pivot_limit": None,
            "tuning_steps": 150, "tuning_rate": 3e-4, "relative": False,
        },
    }  # fmt: skip

    def __post_init__(self) -> None:
        Ppa.__post_init__(self)
        if self.rounds < 1:
            raise ValueError(f"rounds must be 1 or more, got {self.rounds}")
        if not 1 <= self.pseudo_private <= self.keep:
            raise ValueError(
                f"pseudo_private must be in 1..keep, got {self.pseudo_private}, keep {self.keep}"
            )
        for name in ("pivot_steps", "tuning_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("pivot_rate", "pivot_limit", "tuning_rate"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value:g}")

    def once(self) -> Self:
        """Give the budget that takes every step once, on as many images at a time as this one."""
        single = {
            name: min(getattr(self, name), 1) for name in ("steps", "pivot_steps", "tuning_steps")
        }
        return replace(self, views=1, milestones=(), **single)

    def needs(self) -> tuple[str, ...]:
        """Name what the prior must offer."""
        return ("weights", *Ppa.needs(self))

    def steps_of_a_class(self) -> int:
        """Count the candidate-steps that a class takes; those on the prior alone count as such."""
        tuning = (self.rounds - 1) * self.pseudo_private * (self.pivot_steps + self.tuning_steps)
        return self.rounds * self.candidates * self.steps + tuning

    def samples_of_all(self, num_classes: int) -> int:
        """Count the samples that are scored: anew for each class once its prior is tuned."""
        return self.samples * (1 + (self.rounds - 1) * num_classes)

    def views_of_a_class(self) -> int:
        """Count the images that the final selections of a class look at."""
        return self.rounds * self.candidates * self.views

    def search(
        self, target: nn.Module, prior: Prior, scope: Scope, prefix: str = ""
    ) -> Reconstructions:
        """Attack the classes of a scope, each with a prior of its own after the first round.

        Raises:
            ValueError: the prior has no weights that can be tuned.
        """
        if not prior.weights():
            raise ValueError(
                f"ppdg needs a prior with weights to tune, got {prior.name}, which says of none; "
                "choose stylegan2 or warped"
            )
        first = Ppa.search(self, target, prior, scope, prefix)
        if self.rounds == 1:
            return first
        found = [
            self.go_on(target, prior, scope, number, first.images[rows])
            for number, rows in zip(scope.part, scope.batches(self.keep, self.keep), strict=True)
        ]
        names = ("images", "latents", "classes", "confidence")
        return Reconstructions(
            **{name: torch.cat([getattr(one, name) for one in found]) for name in names}
        )

    def go_on(
        self, target: nn.Module, prior: Prior, scope: Scope, number: int, images: Tensor
    ) -> Reconstructions:
        """Do the rounds of one class after the first, whose images (keep, ...) it is given."""
        alone = Scope(
            num_classes=scope.num_classes, part=[number], seed=scope.seed, device=scope.device
        )
        own = deepcopy(prior)
        found = None
        for round_number in range(2, self.rounds + 1):
            pseudo = (images if found is None else found.images)[: self.pseudo_private]
            center = prior.sample_latents(CENTER, generator(scope.seed, "center"))
            self.tune(own, pseudo, center.to(scope.device))
            found = Ppa.search(self, target, own, alone, f"round {round_number} ")
        assert found is not None, "there are two rounds or more"
        return found

    def tune(self, prior: Prior, images: Tensor, samples: Tensor) -> None:
        """Tune a prior, in place, until it makes images (N, ...) near the mean of the samples."""
        with torch.no_grad():
            state, make = first_state(prior, samples, self.space)
        center = state[0].mean(0)
        pivots = (center.expand(len(images), *center.shape).clone(),)
        self.find_pivots(make, pivots, images)
        weights = [tensor.requires_grad_() for tensor in prior.weights()]
        unit = [float(w.detach().abs().mean()) if self.relative else 1.0 for w in weights]
        pairs = zip(weights, unit, strict=True)
        optimizer = torch.optim.Adam(
            [{"params": [tensor], "lr": self.tuning_rate * size} for tensor, size in pairs]
        )
        for _ in range(self.tuning_steps):
            loss = unlikeness(make(pivots), images).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for tensor in weights:
            tensor.requires_grad_(False).grad = None

    def find_pivots(self, make: Make, pivots: State, images: Tensor) -> None:
        """Move pivots, in place, to where the prior makes what is most like the images."""
        center = pivots[0].clone()
        pivots[0].requires_grad_()
        optimizer = torch.optim.Adam(pivots, lr=self.pivot_rate)
        for _ in range(self.pivot_steps):
            loss = unlikeness(make(pivots), images).sum()
            (pivots[0].grad,) = torch.autograd.grad(loss, pivots)
            optimizer.step()
            if self.pivot_limit is not None:
                with torch.no_grad():
                    limit = self.pivot_limit
                    pivots[0].copy_(center + (pivots[0] - center).clamp(-limit, limit))
        pivots[0].requires_grad_(False)
