"""Plug & Play Attacks (Struppek et al. 2022): search a prior's latents for faces of each class."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import nn

from atat_ray.inversion.budget import PAPER, QUICK, SPACES, Budget
from atat_ray.inversion.interface import Reconstructions, Scope
from atat_ray.inversion.optimization import clamp_first, descend, first_state
from atat_ray.inversion.selection import confidence, starting_latents, surest
from atat_ray.priors import Prior
from atat_ray.utils.errors import unknown
from atat_ray.utils.option_fields import later


@dataclass(frozen=True, kw_only=True, slots=True)
class Ppa(Budget):
    """Budget and settings of the attack, beside those that all attacks share.

    Attributes:
        steps: of Adam.
        milestones: steps at which the learning rate falls to a tenth.
        space: what is searched: "latents", or "styles", the w that a staged prior makes of them
            and that PPA searches in StyleGAN2.
    """

    steps: int
    milestones: tuple[int, ...] = later(())
    space: str = later("latents")

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {**QUICK, "steps": 30},
        "paper": {
            **PAPER, "samples": 2000, "candidates": 200, "keep": 50, "steps": 50, "space": "styles",
        },
    }  # fmt: skip

    def __post_init__(self) -> None:
        Budget.__post_init__(self)
        if self.steps < 0:
            raise ValueError(f"steps must be 0 or more, got {self.steps}")
        if list(self.milestones) != sorted(m for m in set(self.milestones) if m > 0):
            raise ValueError(
                f"milestones are steps above 0 in rising order, got {list(self.milestones)}"
            )
        if self.space not in SPACES:
            raise unknown("space", self.space, SPACES)

    def once(self) -> Self:
        """Give the budget that takes every step once, on as many images at a time as this one."""
        return replace(self, views=1, steps=min(self.steps, 1), milestones=())

    def needs(self) -> tuple[str, ...]:
        """Name what the prior must offer."""
        return ("stages",) if self.space == "styles" else ()

    def steps_of_a_class(self) -> int:
        """Count the candidate-steps that a class takes."""
        return self.candidates * self.steps

    def views_of_a_class(self) -> int:
        """Count the images that the final selection of a class looks at."""
        return self.candidates * self.views

    def search(
        self, target: nn.Module, prior: Prior, scope: Scope, prefix: str = ""
    ) -> Reconstructions:
        """Attack the classes of a scope; ``prefix`` sets the draws apart from those of another."""
        latents = starting_latents(target, prior, scope, self, f"{prefix}samples")
        state, make = first_state(prior, latents, self.space)
        state = descend(
            target, make, state, scope, self,
            steps=self.steps, rates=[self.learning_rate], milestones=self.milestones,
            project=clamp_first(self.latent_limit), name=f"{prefix}steps",
        )  # fmt: skip
        with torch.no_grad():
            images = make(state)
        kept, _ = surest(target, images, scope, self, f"{prefix}views")
        classes = scope.labels(self.candidates)[kept]
        return Reconstructions(
            images=images[kept],
            latents=state[0][kept],
            classes=classes,
            confidence=confidence(target, images[kept], classes, self.batch),
        )
