"""IF-GMI (Qiu et al. 2024, "A Closer Look at GAN Priors"): search intermediate features too."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from atat_ray.inversion.budget import PAPER, QUICK, Budget
from atat_ray.inversion.interface import Reconstructions, Scope
from atat_ray.inversion.optimization import Project, descend, needs_stages
from atat_ray.inversion.selection import confidence, starting_latents, surest
from atat_ray.priors import Prior, StagedPrior, State
from atat_ray.utils.errors import unknown
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import generator

CHOICES = ("oracle", "target")
SEARCHED = 2  # tensors of a state: styles and features; what follows is carried along
TYPICAL = 16  # samples that say how large features are, whatever part of the classes is attacked


@dataclass(frozen=True, kw_only=True, slots=True)
class StagedReconstructions(Reconstructions):
    """What IF-GMI returns: images of the stage that was chosen for their class.

    Attributes:
        latents: (C * keep, ...), the first tensor of the last state, where the styles are; the
            features are not kept.
        stage: (C * keep,) long, the stage that the image is of.
        stage_images: (C * keep, S, channels, H, W), the reconstructions of every stage, or no
            stage where none is left to choose.
        stage_confidence: (C * keep, S), the target model's probability of the target class.
    """

    stage: Tensor
    stage_images: Tensor
    stage_confidence: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """What a stage ended with: its final selection and the robust confidence of that.

    Attributes:
        images: (C * keep, channels, H, W), those of the state after the last step.
        styles: (C * keep, ...), the first tensor of that state.
        score: (C * keep,).
    """

    images: Tensor
    styles: Tensor
    score: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class IfGmi(Budget):
    """Budget and settings of the attack, beside those that all attacks share.

    Stage 0 searches the prior's state 0, stage k the styles and features of its state k, which the
    best state of stage k - 1 makes. Each has a fresh Adam and stays in an L1 ball about its start.

    Attributes:
        steps: of Adam in each stage; their number is that of the stages.
        radii: of the ball of the styles in each stage, in the L1 norm.
        feature_radii: of that of the features in each stage after the first.
        relative: whether radii are shares of the L1 norm of what the stage starts with, so that
            they mean the same for features of any size, instead of the paper's absolute ones.
        feature_rate: learning rate of the features; if ``relative`` in units of their mean
            magnitude, which differs between priors by orders.
        choice: which stage is reported: "target", that whose reconstructions of a class the target
            model is surest about under random views, class by class; or "oracle", the one stage of
            all classes with the highest AttAcc@1, as the paper did. The evaluation model is then
            part of the attack, and the AttAcc of the result is biased upwards.
    """

    steps: tuple[int, ...]
    radii: tuple[float, ...]
    feature_radii: tuple[float, ...]
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
            raise ValueError(f"steps has one number of 0 or more a stage, got {list(self.steps)}")
        for name, count in (("radii", len(self.steps)), ("feature_radii", len(self.steps) - 1)):
            values = getattr(self, name)
            if len(values) != count or not all(value > 0 for value in values):
                raise ValueError(
                    f"{name} has {count} numbers above 0 for {len(self.steps)} stages, "
                    f"got {list(values)}"
                )
        if not self.feature_rate > 0:
            raise ValueError(f"feature_rate must be above 0, got {self.feature_rate:g}")
        if self.choice not in CHOICES:
            raise unknown("choice", self.choice, CHOICES)

    def once(self) -> Self:
        """Give the budget that takes every step once, on as many images at a time as this one."""
        return replace(self, views=1, steps=tuple(min(steps, 1) for steps in self.steps))

    def needs(self) -> tuple[str, ...]:
        """Name what the prior must offer."""
        return ("stages",)

    def steps_of_a_class(self) -> int:
        """Count the candidate-steps that a class takes."""
        return self.candidates * sum(self.steps)

    def views_of_a_class(self) -> int:
        """Count the images that the final selections of a class look at."""
        return self.candidates * self.views * len(self.steps)

    def search(self, target: nn.Module, prior: Prior, scope: Scope) -> StagedReconstructions:
        """Attack the classes of a scope.

        Raises:
            ValueError: the prior has fewer stages.
        """
        endings = self.endings(target, self.check(prior), scope)
        scores = torch.stack([ending.score for ending in endings], dim=1)
        by_class = scores.view(len(scope.part), self.keep, -1).mean(1)
        stage = by_class.argmax(1).repeat_interleave(self.keep)
        rows = torch.arange(len(stage), device=stage.device)
        images = torch.stack([ending.images for ending in endings], dim=1)
        styles = torch.stack([ending.styles for ending in endings], dim=1)
        classes = scope.labels(self.keep)
        sure = torch.stack(
            [confidence(target, ending.images, classes, self.batch) for ending in endings], dim=1
        )
        asked = len(endings) if self.choice == "oracle" else 0
        return StagedReconstructions(
            images=images[rows, stage],
            latents=styles[rows, stage],
            classes=classes,
            confidence=sure[rows, stage],
            stage=stage,
            stage_images=images[:, :asked].clone(),
            stage_confidence=sure[:, :asked].clone(),
        )

    def check(self, prior: Prior) -> StagedPrior:
        """Refuse a prior without the stages that are asked for."""
        staged = needs_stages(prior, "if_gmi")
        if len(self.steps) > staged.num_stages + 1:
            raise ValueError(
                f"if_gmi has steps for {len(self.steps)} stages, the prior {prior.name} has "
                f"{staged.num_stages + 1}; shorten steps, radii and feature_radii"
            )
        return staged

    def endings(self, target: nn.Module, prior: StagedPrior, scope: Scope) -> list[Ending]:
        """Search stage after stage, and make the final selection of each."""
        with torch.no_grad():
            state = prior.begin(starting_latents(target, prior, scope, self))
            typical = prior.sample_latents(TYPICAL, generator(scope.seed, "typical"))
            typical = prior.begin(typical.to(scope.device))
        found = []
        for stage, steps in enumerate(self.steps):

            def make(state: State, stage: int = stage) -> Tensor:
                return prior.finish(state, stage)

            rates = [self.learning_rate, *self.feature_rates(typical)]
            state = descend(
                target, make, state, scope, self,
                steps=steps, rates=rates, project=self.ball(stage), name=f"steps {stage}",
            )  # fmt: skip
            with torch.no_grad():
                images = make(state)
                kept, score = surest(target, images, scope, self)
                found.append(Ending(images=images[kept], styles=state[0][kept], score=score))
                if stage + 1 < len(self.steps):
                    state, typical = prior.advance(state, stage), prior.advance(typical, stage)
        return found

    def feature_rates(self, typical: State) -> list[float]:
        """Give the learning rate of the features, if a state like ``typical`` has any."""
        unit = [float(tensor.abs().mean()) for tensor in typical[1:SEARCHED]]
        return [self.feature_rate * (size if self.relative else 1.0) for size in unit]

    def ball(self, stage: int) -> Project:
        """Make the projection of a stage onto its balls; styles are clamped as well."""
        radii = [self.radii[stage], *self.feature_radii[stage - 1 : stage]][: stage + 1]

        def project(state: State, start: State) -> None:
            for tensor, center, radius in zip(state, start, radii, strict=False):
                size = l1_norm(center) if self.relative else torch.ones_like(l1_norm(center))
                tensor.copy_(center + project_l1(tensor - center, radius * size))
            if self.latent_limit is not None:
                state[0].clamp_(-self.latent_limit, self.latent_limit)

        return project


def project_l1(moves: Tensor, radii: Tensor) -> Tensor:
    """Project each row of ``moves`` onto the L1 ball about zero.

    The nearest point of the ball lowers all magnitudes by one threshold, down to zero (Duchi,
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
    """Give the L1 norm of each row of (N, ...): (N,)."""
    return rows.flatten(1).abs().sum(1)
