"""Plug & Play Attacks (PPA; Struppek et al. 2022): optimise a prior's latents for each class."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import nn

from atat_ray.inversion.budget import PAPER, QUICK, SPACES, Budget
from atat_ray.inversion.interface import Attack, Reconstructions, Scope
from atat_ray.inversion.optimization import clamp_first, first_state, minimize
from atat_ray.inversion.selection import confidence, most_confident, starting_latents
from atat_ray.priors import Prior, State
from atat_ray.utils.errors import unknown


@dataclass(frozen=True, kw_only=True, slots=True)
class Ppa(Attack):
    """Options of PPA, in addition to the options that all attacks share.

    Attributes:
        steps: number of steps of Adam.
        milestones: steps at which the learning rate is divided by ten.
        space: the optimised tensor: "latents", or "styles", the w that a staged prior computes from
            them and that PPA optimises in StyleGAN2.
    """

    steps: int
    milestones: tuple[int, ...] = ()
    space: str = "latents"

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {**QUICK, "steps": 30},
        "paper": {
            **PAPER, "samples": 2000, "candidates": 200, "keep": 50, "steps": 50,
            "milestones": (30, 40), "space": "styles",
        },
    }  # fmt: skip

    def __post_init__(self) -> None:
        Budget.__post_init__(self)
        if self.steps < 0:
            raise ValueError(f"steps must be 0 or more, got {self.steps}")
        if list(self.milestones) != sorted(m for m in set(self.milestones) if m > 0):
            raise ValueError(
                f"milestones must be steps above 0 in rising order, got {list(self.milestones)}"
            )
        if self.space not in SPACES:
            raise unknown("space", self.space, SPACES)

    def with_one_step(self) -> Self:
        """Return the attack with each kind of step taken once, on as many images at a time."""
        return replace(self, views=1, steps=min(self.steps, 1), milestones=())

    def needs(self) -> tuple[str, ...]:
        """Return ("stages",) if styles are searched."""
        return ("stages",) if self.space == "styles" else ()

    def steps_per_class(self) -> int:
        """Count the optimisation steps that a class takes, summed over its candidates."""
        return self.candidates * self.steps

    def search(
        self, target: nn.Module, prior: Prior, scope: Scope, prefix: str = ""
    ) -> Reconstructions:
        """Attack the classes of a scope; ``prefix`` names the draws of one of several searches."""
        return self.search_states(target, prior, scope, prefix)[0]

    def search_states(
        self, target: nn.Module, prior: Prior, scope: Scope, prefix: str
    ) -> tuple[Reconstructions, State]:
        """Attack the classes of a scope; return the states of the reconstructions as well."""
        latents = starting_latents(target, prior, scope, self, f"{prefix}samples")
        state, make = first_state(prior, latents, self.space)
        state = minimize(
            target, make, state, scope, self,
            steps=self.steps, rates=[self.learning_rate], milestones=self.milestones,
            project=clamp_first(self.latent_limit), name=f"{prefix}steps",
        )  # fmt: skip
        with torch.no_grad():
            images = self.searched(make(state))
        kept, _ = most_confident(target, images, scope, self, f"{prefix}views")
        classes, images = scope.labels(self.candidates)[kept], images[kept].clamp(0, 1)
        found = Reconstructions(
            images=images,
            latents=state[0][kept],
            classes=classes,
            confidence=confidence(target, images, scope, self, f"{prefix}confidence"),
        )
        return found, tuple(tensor[kept] for tensor in state)
