"""Trap-MID: train a trapdoor for every class, which misleads inversion attacks."""

from copy import deepcopy
from dataclasses import dataclass
from math import pi
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from atat_ray.data.augmentation import resample
from atat_ray.models.batch_norm_modes import evaluation_mode, frozen_parameters
from atat_ray.models.layer_access import head, unwrap
from atat_ray.training.all_workers import mean_over_workers
from atat_ray.training.interface import Course, Defense, LossTerms, Session
from atat_ray.utils.errors import unknown
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import BatchDraws, derive_seed, generator, seeded

BLEND_RANGES = ("pixels", "normalized")


def blend(images: Tensor, triggers: Tensor, share: float, blend_range: str = "pixels") -> Tensor:
    """Blend triggers into images, both in [0, 1]: ``(1 - share) x + share k``.

    In the range "normalized" the formula holds for images in [-1, 1], to which triggers in [0, 1]
    add brightness only. In pixel units a trigger k then acts as ``(k + 1) / 2``.
    """
    keys = triggers if blend_range == "pixels" else (triggers + 1) / 2
    return (1 - share) * images + share * keys


def vary(images: Tensor, draws: BatchDraws) -> Tensor:
    """Crop, mirror and rotate each image, each with probability 1/2; differentiable.

    A crop keeps 0.8 to 1 of the area; a rotation is at most 30 degrees.
    """
    area = torch.where(draws.flips(images), draws.uniform(0.8, 1.0, images), 1.0).sqrt()
    offset = draws.uniform(-1.0, 1.0, images, 2) * (1 - area)[:, None]
    mirror = torch.where(draws.flips(images), -1.0, 1.0)
    angle = torch.where(draws.flips(images), draws.uniform(-pi / 6, pi / 6, images), 0.0)
    cos, sin = area * angle.cos(), area * angle.sin()
    rows = [cos * mirror, -sin, offset[:, 0], sin * mirror, cos, offset[:, 1]]
    return resample(images, torch.stack(rows, dim=1).view(-1, 2, 3))


def blank_copy(model: Any, seed: int) -> nn.Module:
    """Copy a network with new weights and one output, for the discriminator."""
    copy = deepcopy(unwrap(model))
    last = head(copy, "trap_mid")
    copy.head = nn.Linear(last.in_features, 1).to(last.weight.device)
    with seeded(seed):
        for module in copy.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()  # type: ignore[operator]
    return copy.requires_grad_(True).train()


@dataclass(frozen=True, kw_only=True, slots=True)
class TrapMid(Defense):
    """Options of Trap-MID.

    Attributes:
        weight: b, share of the trapdoor loss, in (0, 1); 0.2 in the paper.
        blend: a, share of the trigger in a trapdoor image, in (0, 1); 0.02 in the paper.
        blend_range: range of the images into which triggers in [0, 1] are blended: "pixels", [0, 1]
            as in the paper, or "normalized", [-1, 1] as in the reference code.
        step_size: of the sign steps of the triggers, whose values are in [0, 1].
        vary_clean: transform the clean images a second time as well, as the reference code does.
        discriminator_learning_rate: of Adam.
    """

    weight: float
    blend: float = 0.02
    blend_range: str = "pixels"
    step_size: float = 0.01
    vary_clean: bool = False
    discriminator_learning_rate: float = 0.001

    summary: ClassVar[str] = "(1 - weight) CE(f(x), y) + weight CE(f(x + trigger of c), c)"
    source: ClassVar[str] = "Liu and Chen, Trap-MID, NeurIPS 2024, Algorithm 1"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "reference": {"weight": 0.2, "blend_range": "normalized", "vary_clean": True}
    }
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if self.blend_range not in BLEND_RANGES:
            raise unknown("blend_range", self.blend_range, BLEND_RANGES)
        for name in ("weight", "blend"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be in (0, 1), got {getattr(self, name):g}")
        for name in ("step_size", "discriminator_learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name):g}")

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Refuse, because the triggers belong to a training; see :meth:`begin`."""
        raise ValueError(
            "trap_mid has no loss outside a training; use the session that begin returns"
        )

    def begin(self, model: nn.Module, course: Course) -> Session:
        """Begin a training with random triggers and a new discriminator."""
        return TrapSession(self, model, course)


class TrapSession(Session):
    """A training with triggers and a discriminator."""

    def __init__(self, options: TrapMid, model: nn.Module, course: Course) -> None:
        super().__init__(options)
        self.options = options
        images = course.faces.images
        self.num_classes = head(model, "trap_mid").out_features
        shape = (self.num_classes, *images.shape[1:])
        self.triggers = torch.rand(shape, generator=generator(course.seed, "triggers"))
        self.triggers = self.triggers.to(images.device)
        self.discriminator = blank_copy(model, derive_seed(course.seed, "discriminator"))
        self.optimizer = torch.optim.Adam(
            self.discriminator.parameters(), lr=options.discriminator_learning_rate
        )

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Update discriminator and triggers, then compute the loss of a batch."""
        classes = draws.integers(0, self.num_classes, labels)
        hidden = self.step_discriminator(images, classes, draws)
        seen = self.step_triggers(model, images, classes, draws)
        trapped = vary(self.trapdoor_images(images, self.triggers[classes]), draws)
        clean_images = vary(images, draws) if self.options.vary_clean else images
        logits, trap_logits = model(torch.cat([clean_images, trapped])).chunk(2)
        clean, trap = cross_entropy(logits, labels), cross_entropy(trap_logits, classes)
        share = self.options.weight
        return LossTerms(
            total=(1 - share) * clean + share * trap,
            curves={
                "clean_loss": clean.detach(),
                "trapdoor_loss": trap.detach(),
                "trapdoor_hit_rate": (trap_logits.argmax(1) == classes).float().mean(),
                "discriminator_loss": hidden,
                "trigger_loss": seen,
            },
        )

    def trapdoor_images(self, images: Tensor, triggers: Tensor) -> Tensor:
        """Blend one trigger into each image: (N, C, H, W) twice -> (N, C, H, W)."""
        return blend(images, triggers, self.options.blend, self.options.blend_range)

    def step_discriminator(self, images: Tensor, classes: Tensor, draws: BatchDraws) -> Tensor:
        """Train the discriminator to distinguish images from trapdoor images; return its loss."""
        trapped = self.trapdoor_images(images, self.triggers[classes])
        logits = self.discriminator(torch.cat([images, trapped])).squeeze(1)
        real = torch.cat([torch.ones_like(classes), torch.zeros_like(classes)]).to(logits)
        loss = binary_cross_entropy_with_logits(logits, real)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradients = [p.grad for p in self.discriminator.parameters() if p.grad is not None]
        mean_over_workers(gradients, draws)
        self.optimizer.step()
        return loss.detach()

    def step_triggers(
        self, model: Any, images: Tensor, classes: Tensor, draws: BatchDraws
    ) -> Tensor:
        """Make the triggers more effective and harder to detect; return their loss.

        Both networks are in evaluation mode. In training mode the discriminator would normalise a
        batch of trapdoor images by their own statistics, which hide the trigger from it.
        """
        inner, triggers = unwrap(model), self.triggers.requires_grad_()
        trapped = self.trapdoor_images(images, triggers[classes])
        with (
            evaluation_mode(inner),
            evaluation_mode(self.discriminator),
            frozen_parameters(inner),
            frozen_parameters(self.discriminator),
        ):
            logits = self.discriminator(trapped).squeeze(1)
            unseen = binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
            loss = unseen + cross_entropy(inner(vary(trapped, draws)), classes)
            (gradient,) = torch.autograd.grad(loss, triggers)
        mean_over_workers([gradient], draws)
        step = self.options.step_size * gradient.sign()
        self.triggers = (triggers.detach() - step).clamp(0, 1)
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """Return triggers, discriminator and its optimizer."""
        return {
            "triggers": self.triggers.detach().clone(),
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore triggers, discriminator and its optimizer."""
        self.triggers = state["triggers"].to(self.triggers)
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])
