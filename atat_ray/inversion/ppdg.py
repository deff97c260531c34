"""PPDG (Peng et al. 2024, "Pseudo-Private Data Guided Model Inversion Attacks"), point-wise.

The reconstructions of a first inversion serve as pseudo-private images of a class. The prior is
tuned to generate them near the centre of its latent space, where a second inversion starts.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from atat_ray.inversion.budget import PAPER, QUICK
from atat_ray.inversion.interface import Reconstructions, Scope, count_bytes
from atat_ray.inversion.optimization import Synthesize
from atat_ray.inversion.ppa import Ppa
from atat_ray.priors import Prior, StagedPrior, State, priors_offering
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import generator

COARSEST_SIDE = 8  # pixels
NUM_CENTER_SAMPLES = 600  # their mean is the centre, as in the paper's code


def image_distance(images: Tensor, others: Tensor) -> Tensor:
    """Compute the mean over scales of the absolute differences of pixels and of edges, (N,).

    Each scale halves the one before by averaging. PPDG (Peng et al. 2024) uses LPIPS, which needs a
    VGG trained on ImageNet. The features of the target model are no replacement: they would tune
    the prior along its adversarial directions.

    Args:
        images: (N, C, H, W) in [0, 1].
        others: of the same shape.
    """
    difference, scales = images - others, 0
    total = torch.zeros(len(images), device=images.device)
    while True:
        edges = (difference.diff(dim=2), difference.diff(dim=3))
        total = total + sum(part.abs().mean(dim=(1, 2, 3)) for part in (difference, *edges))
        scales += 1
        if min(difference.shape[2:]) < 2 * COARSEST_SIDE:
            return total / scales
        difference = avg_pool2d(difference, 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ppdg(Ppa):
    """Options of PPDG, in addition to those of PPA, which runs in each round.

    For each class, starting from the given prior: run PPA, take the best reconstructions as
    pseudo-private images, find a pivot for each image, tune the prior until the pivots generate the
    images, and run PPA again. Pivots are styles if the prior has stages, else latents: the mean of
    the latents of StyleGAN2 is no centre, because its mapping normalises them. Pseudo-private
    images are whole, not cropped and resized for the target model. The result is that of the last
    round; its latents belong to a tuned prior that is not stored. Unlike the paper, the distance
    between images is :func:`image_distance`, and pivots are found without noise and at a constant
    learning rate.

    Attributes:
        rounds: runs of PPA for each class; the prior is tuned between them.
        pseudo_private: reconstructions that the prior is tuned to.
        pivot_steps: steps of Adam in the search for the pivots, which starts at the centre.
        pivot_rate: learning rate of that search.
        pivot_limit: largest distance of a pivot from the centre in every coordinate; null means no
            limit, as in the paper. Without a limit the pivots of a small prior would match the
            images exactly and leave nothing to tune; the paper's coarse pivots do not.
        tuning_steps: steps of Adam on the weights of the prior.
        tuning_rate: learning rate of the tuning.
        relative: whether ``tuning_rate`` is a share of the mean magnitude of each weight tensor.
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
            # The final selection looks at the image and its mirror image, not at crops.
            "view_area": (1.0, 1.0), "view_ratio": (1.0, 1.0),
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

    def with_one_step(self) -> Self:
        """Return the attack with each kind of step taken once, on as many images at a time."""
        single = {
            name: min(getattr(self, name), 1) for name in ("steps", "pivot_steps", "tuning_steps")
        }
        return replace(self, views=1, milestones=(), **single)

    def minimal(self) -> Self:
        """Return the attack with each kind of step taken once, on one candidate of one class."""
        return replace(
            self.with_one_step(),
            samples=1,
            candidates=1,
            keep=1,
            batch_classes=1,
            pseudo_private=1,
        )

    def needs(self) -> tuple[str, ...]:
        """Return ("weights",), and ("weights", "stages") if styles are searched."""
        return ("weights", *Ppa.needs(self))

    def steps_per_class(self) -> int:
        """Count the optimisation steps that a class takes, those on the prior alone included."""
        tuning = (self.rounds - 1) * self.pseudo_private * (self.pivot_steps + self.tuning_steps)
        return self.rounds * self.candidates * self.steps + tuning

    def num_scored_samples(self, num_classes: int) -> int:
        """Count the samples that one process scores: again for each class after every tuning."""
        return self.samples * (1 + (self.rounds - 1) * num_classes)

    def held_bytes(self, prior: Prior, num_classes: int, image_bytes: int) -> int:
        """Count the bytes that are held until a part ends, a tuned prior and its Adam included."""
        tuned = 4 * count_bytes(prior.weights())  # weights, gradients and two moments
        return Ppa.held_bytes(self, prior, num_classes, image_bytes) + tuned

    def views_per_class(self) -> int:
        """Count the images that the final selections of a class score."""
        return self.rounds * self.candidates * self.views

    def search(
        self, target: nn.Module, prior: Prior, scope: Scope, prefix: str = ""
    ) -> Reconstructions:
        """Attack the classes of a scope, each with its own prior after the first round.

        Raises:
            ValueError: the prior has no weights that can be tuned.
        """
        if not prior.weights():
            raise ValueError(
                f"ppdg needs a prior with weights to tune, got {prior.name}; "
                f"choose {' or '.join(priors_offering('weights'))}"
            )
        first, states = self.search_states(target, prior, scope, prefix)
        if self.rounds == 1:
            return first
        found = [
            self.search_again(target, prior, scope, number, tuple(t[rows] for t in states))
            for number, rows in zip(scope.part, scope.batches(self.keep, self.keep), strict=True)
        ]
        names = ("images", "latents", "classes", "confidence")
        return Reconstructions(
            **{name: torch.cat([getattr(one, name) for one in found]) for name in names}
        )

    def search_again(
        self, target: nn.Module, prior: Prior, scope: Scope, number: int, states: State
    ) -> Reconstructions:
        """Run the rounds of class ``number`` after the first, which found ``states``."""
        one_class = Scope(
            num_classes=scope.num_classes, part=[number], seed=scope.seed, device=scope.device
        )
        tuned = deepcopy(prior)
        found = None
        for round_number in range(2, self.rounds + 1):
            pseudo = self.pseudo_images(tuned, states)
            samples = prior.sample_latents(NUM_CENTER_SAMPLES, generator(scope.seed, "center"))
            self.tune(tuned, pseudo, samples.to(scope.device))
            prefix = f"round {round_number} "
            found, states = self.search_states(target, tuned, one_class, prefix)
        assert found is not None, "there are two rounds or more"
        return found

    @torch.no_grad()
    def pseudo_images(self, prior: Prior, states: State) -> Tensor:
        """Make the pseudo-private images, whole, from the states that a search found."""
        best = tuple(tensor[: self.pseudo_private] for tensor in states)
        first_pivots, synthesize = self.pivot_space(prior)
        return synthesize(first_pivots(best[0]) if self.space == "latents" else best)

    def pivot_space(self, prior: Prior) -> tuple[Callable[[Tensor], State], Synthesize]:
        """Return the functions from latents to pivots and from pivots to whole images."""
        if isinstance(prior, StagedPrior):
            return prior.begin, lambda state: self.searched(prior.whole(state))
        return lambda latents: (latents,), lambda state: self.searched(prior.render(state[0]))

    def tune(self, prior: Prior, images: Tensor, samples: Tensor) -> None:
        """Tune a prior, in place, to generate whole images near the mean of the samples.

        Args:
            prior: prior to tune.
            images: (N, C, H, W), as ``pseudo_images`` makes them.
            samples: latents (M, D), whose mean pivot is the centre.
        """
        first_pivots, synthesize = self.pivot_space(prior)
        with torch.no_grad():
            center = first_pivots(samples)[0].mean(0)
        pivots = (center.expand(len(images), *center.shape).clone(),)
        self.find_pivots(synthesize, pivots, images)
        weights = [tensor.requires_grad_() for tensor in prior.weights()]
        scales = [float(w.detach().abs().mean()) if self.relative else 1.0 for w in weights]
        pairs = zip(weights, scales, strict=True)
        optimizer = torch.optim.Adam(
            [{"params": [tensor], "lr": self.tuning_rate * scale} for tensor, scale in pairs]
        )
        for _ in range(self.tuning_steps):
            loss = image_distance(synthesize(pivots), images).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for tensor in weights:
            tensor.requires_grad_(False).grad = None

    def find_pivots(self, synthesize: Synthesize, pivots: State, images: Tensor) -> None:
        """Optimise pivots, in place, so that the prior generates images close to the given ones."""
        center = pivots[0].clone()
        pivots[0].requires_grad_()
        optimizer = torch.optim.Adam(pivots, lr=self.pivot_rate)
        for _ in range(self.pivot_steps):
            loss = image_distance(synthesize(pivots), images).sum()
            (pivots[0].grad,) = torch.autograd.grad(loss, pivots)
            optimizer.step()
            if self.pivot_limit is not None:
                with torch.no_grad():
                    limit = self.pivot_limit
                    pivots[0].copy_(center + (pivots[0] - center).clamp(-limit, limit))
        pivots[0].requires_grad_(False)
