"""IF-GMI (Qiu et al. 2024, "A Closer Look at GAN Priors"): optimise intermediate features too."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from atat_ray.inversion.budget import PAPER, QUICK, Budget
from atat_ray.inversion.interface import Attack, Reconstructions, Scope, count_bytes
from atat_ray.inversion.optimization import Project, minimize, require_stages
from atat_ray.inversion.selection import confidence, most_confident, starting_latents
from atat_ray.priors import Prior, StagedPrior, State
from atat_ray.utils.errors import unknown
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import generator

CHOICES = ("oracle", "target")
NUM_SEARCHED = 2  # tensors of a state that are optimised: styles and features
NUM_REFERENCE_SAMPLES = 16  # the scale of features is measured on them, alike for every part


@dataclass(frozen=True, kw_only=True, slots=True)
class StagedReconstructions(Reconstructions):
    """Result of IF-GMI: images of the stage that was chosen for their class.

    Attributes:
        latents: (C * keep, ...), styles: the first tensor of the stage's last state. Features are
            not stored.
        stage: (C * keep,) long, stage of the image.
        stage_images: (C * keep, S, channels, H, W), reconstructions of all S stages if the
            evaluation model chooses the stage; else S = 0.
        stage_confidence: (C * keep, S), the target model's probability of the target class.
    """

    stage: Tensor
    stage_images: Tensor
    stage_confidence: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class StageResult:
    """Final selection of one stage.

    Attributes:
        images: (C * keep, channels, H, W), images of the state after the last step.
        styles: (C * keep, ...), first tensor of that state.
        score: (C * keep,), robust confidence.
    """

    images: Tensor
    styles: Tensor
    score: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class IfGmi(Attack):
    """Options of IF-GMI, in addition to the options that all attacks share.

    Stage 0 optimises the prior's state 0. Stage k optimises the styles and features of its state k,
    which is computed from the final state of stage k - 1. Each stage has a new Adam and an L1 ball
    around its initial state.

    Attributes:
        steps: steps of Adam in each stage; one number a stage.
        radii: radius of the ball of the styles in each stage, in the L1 norm; null means no ball.
        feature_radii: radius of the ball of the features in each stage after the first; null means
            no ball.
        relative: whether radii are shares of the L1 norm of the stage's initial state, so that they
            mean the same for features of any scale; the paper uses absolute radii.
        feature_rate: learning rate of the features. If ``relative``, its unit is their mean
            magnitude, which differs between priors by orders of magnitude.
        choice: how the reported stage is chosen. "target": for each class the stage with the
            highest robust confidence of the target model. "oracle": the one stage for all classes
            with the highest AttAcc@1, as in the paper; the evaluation model is then part of the
            attack, and the AttAcc of the result is biased upwards.
    """

    steps: tuple[int, ...]
    radii: tuple[float, ...] | None
    feature_radii: tuple[float, ...] | None
    feature_rate: float
    relative: bool = True
    choice: str = "target"

    __pydantic_config__ = STRICT
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {
            **QUICK, "steps": (30, 10, 10), "radii": (4.0, 0.5, 0.5),
            "feature_radii": (0.1, 0.1), "feature_rate": 0.02,
        },
        "paper": {
            **PAPER, "samples": 2000, "candidates": 50, "keep": 50, "steps": (50, 10, 10, 10),
            "radii": (1000.0, 2000.0, 3000.0, 4000.0), "feature_radii": (2000.0, 3000.0, 4000.0),
            "feature_rate": 0.005, "relative": False,
        },
    }  # fmt: skip

    def __post_init__(self) -> None:
        Budget.__post_init__(self)
        if not self.steps or min(self.steps) < 0:
            raise ValueError(
                f"steps must have one number of 0 or more a stage, got {list(self.steps)}"
            )
        for name, count in (("radii", len(self.steps)), ("feature_radii", len(self.steps) - 1)):
            values = getattr(self, name)
            if values is None:
                continue
            if len(values) != count or not all(value > 0 for value in values):
                raise ValueError(
                    f"{name} must have {count} numbers above 0 for {len(self.steps)} stages, "
                    f"got {list(values)}; null means no balls"
                )
        if not self.feature_rate > 0:
            raise ValueError(f"feature_rate must be above 0, got {self.feature_rate:g}")
        if self.choice not in CHOICES:
            raise unknown("choice", self.choice, CHOICES)

    def with_one_step(self) -> Self:
        """Return the attack with each kind of step taken once, on as many images at a time."""
        return replace(self, views=1, steps=tuple(min(steps, 1) for steps in self.steps))

    def needs(self) -> tuple[str, ...]:
        """Return ("stages",)."""
        return ("stages",)

    def steps_per_class(self) -> int:
        """Count the optimisation steps that a class takes, summed over its candidates."""
        return self.candidates * sum(self.steps)

    def held_bytes(self, prior: Prior, num_classes: int, image_bytes: int) -> int:
        """Count the bytes that are held until a part ends: images of every stage, and states."""
        with torch.no_grad():
            state = self.check_prior(prior).begin(prior.sample_latents(1, generator("held")))
            sizes = [count_bytes(state)]
            for stage in range(len(self.steps) - 1):
                state = self.check_prior(prior).advance(state, stage)
                sizes.append(count_bytes(state))
        # A stage has the images of all candidates, their state at its start and at its end. The
        # kept images of all stages are joined at the end.
        of_candidates = self.candidates * (image_bytes + 2 * max(sizes))
        return num_classes * (of_candidates + 2 * len(self.steps) * self.keep * image_bytes)

    def views_per_class(self) -> int:
        """Count the images that the final selections of a class score."""
        return self.candidates * self.views * len(self.steps)

    def search(self, target: nn.Module, prior: Prior, scope: Scope) -> StagedReconstructions:
        """Attack the classes of a scope.

        Raises:
            ValueError: the prior has too few stages.
        """
        results = self.search_stages(target, self.check_prior(prior), scope)
        scores = torch.stack([result.score for result in results], dim=1)
        by_class = scores.view(len(scope.part), self.keep, -1).mean(1)
        stage = by_class.argmax(1).repeat_interleave(self.keep)
        rows = torch.arange(len(stage), device=stage.device)
        images = torch.stack([result.images for result in results], dim=1)
        styles = torch.stack([result.styles for result in results], dim=1)
        classes = scope.labels(self.keep)
        by_stage = torch.stack(
            [confidence(target, result.images, scope, self) for result in results], dim=1
        )
        num_stored = len(results) if self.choice == "oracle" else 0
        return StagedReconstructions(
            images=images[rows, stage],
            latents=styles[rows, stage],
            classes=classes,
            confidence=by_stage[rows, stage],
            stage=stage,
            stage_images=images[:, :num_stored].clone(),
            stage_confidence=by_stage[:, :num_stored].clone(),
        )

    def check_prior(self, prior: Prior) -> StagedPrior:
        """Return the prior if it has as many stages as ``steps`` has numbers.

        Raises:
            ValueError: it has too few.
        """
        staged = require_stages(prior, "if_gmi")
        if len(self.steps) > staged.num_stages + 1:
            raise ValueError(
                f"if_gmi has steps for {len(self.steps)} stages, the prior {prior.name} has "
                f"{staged.num_stages + 1}; shorten steps, radii and feature_radii"
            )
        return staged

    def search_stages(
        self, target: nn.Module, prior: StagedPrior, scope: Scope
    ) -> list[StageResult]:
        """Optimise the state of each stage in turn, and make the final selection of each."""
        with torch.no_grad():
            state = prior.begin(starting_latents(target, prior, scope, self))
            latents = prior.sample_latents(NUM_REFERENCE_SAMPLES, generator(scope.seed, "typical"))
            reference = prior.begin(latents.to(scope.device))
        found = []
        for stage, steps in enumerate(self.steps):

            def synthesize(state: State, stage: int = stage) -> Tensor:
                return self.searched(prior.finish(state, stage))

            rates = [self.learning_rate, *self.feature_rates(reference)]
            state = minimize(
                target, synthesize, state, scope, self,
                steps=steps, rates=rates, project=self.ball(stage), name=f"steps {stage}",
            )  # fmt: skip
            with torch.no_grad():
                images = synthesize(state)
                kept, score = most_confident(target, images, scope, self)
                images = images[kept].clamp(0, 1)
                found.append(StageResult(images=images, styles=state[0][kept], score=score))
                if stage + 1 < len(self.steps):
                    state, reference = prior.advance(state, stage), prior.advance(reference, stage)
        return found

    def feature_rates(self, reference: State) -> list[float]:
        """Return the learning rate of the features; an empty list if the state has none."""
        magnitudes = [float(tensor.abs().mean()) for tensor in reference[1:NUM_SEARCHED]]
        return [self.feature_rate * (size if self.relative else 1.0) for size in magnitudes]

    def ball(self, stage: int) -> Project:
        """Make the projection of a stage onto its L1 balls; it also clamps the styles."""
        radii = [None if self.radii is None else self.radii[stage]]
        if stage:
            radii.append(None if self.feature_radii is None else self.feature_radii[stage - 1])

        def project(state: State, start: State) -> None:
            for tensor, center, radius in zip(state, start, radii, strict=False):
                if radius is None:
                    continue
                size = l1_norm(center) if self.relative else torch.ones_like(l1_norm(center))
                tensor.copy_(center + project_l1(tensor - center, radius * size))
            if self.latent_limit is not None:
                state[0].clamp_(-self.latent_limit, self.latent_limit)

        return project


def project_l1(moves: Tensor, radii: Tensor) -> Tensor:
    """Project each row of ``moves`` onto the L1 ball around zero.

    The projection subtracts one threshold from all magnitudes and cuts them at zero (Duchi,
    Shalev-Shwartz, Singer & Chandra 2008, "Efficient Projections onto the l1-Ball", Fig. 1).

    Args:
        moves: (N, ...).
        radii: (N,), above 0.
    """
    flat = moves.flatten(1)
    sizes = flat.abs()
    ordered = sizes.sort(dim=1, descending=True).values
    excess = ordered.cumsum(1) - radii[:, None]
    counts = torch.arange(1, flat.shape[1] + 1, device=flat.device)
    last = (ordered * counts > excess).sum(dim=1, keepdim=True).clamp_min(1)
    threshold = excess.gather(1, last - 1) / last
    inside = sizes.sum(dim=1, keepdim=True) <= radii[:, None]
    shrunk = flat.sign() * (sizes - threshold).clamp_min(0)
    return torch.where(inside, flat, shrunk).view_as(moves)


def l1_norm(rows: Tensor) -> Tensor:
    """Compute the L1 norm of each row: (N, ...) -> (N,)."""
    return rows.flatten(1).abs().sum(1)
