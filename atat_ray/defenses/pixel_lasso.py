"""Lasso pixel deletion: choose the pixels that matter, delete the others, train on the rest.

First a copy of the network and a weight for each pixel learn together, with a group lasso on the
weights; pixels whose weight falls below a threshold are deleted for good. With ``adaptive``, once
more with the penalty of each pixel divided by its weight from the first round (Dinh and Ho 2020).
Then the network itself is trained from its initial weights on images without these pixels: they
are deleted before the images are varied, so that no shift or flip brings their content back. What
was chosen is part of the training's state, and so is a choice that was cut off.
"""

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from atat_ray.data import Faces
from atat_ray.models.image_layers import GRAY, PixelMask
from atat_ray.models.introspection import FrontEnd, unwrap
from atat_ray.training import train
from atat_ray.training.checkpoint import Checkpoint
from atat_ray.training.interface import Course, Defense, LossTerms, Session, check_weight
from atat_ray.training.no_defense import NoDefense
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import BatchDraws, derive_seed

START = 0.5  # weight of every pixel at the beginning


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelLasso(Defense):
    """Options of pixel deletion.

    Attributes:
        weight: of the penalty ``sum |W_ij|_2`` beside the mean cross-entropy, at least 0.
        ridge: of ``sum |W_ij|_2^2``, at least 0.
        adaptive: choose twice, the second time with adaptive penalties.
        gamma: power of the weights in adaptive penalties.
        threshold: pixels of a smaller weight are deleted.
        settle: share of the steps of each choice in which nothing is deleted.
        learning_rate: of the pixel weights (Adam); below the threshold, which weights would
            otherwise step over.
    """

    weight: float
    ridge: float = 0.0
    adaptive: bool = False
    gamma: float = 1.0
    threshold: float = 0.02
    settle: float = 0.1
    learning_rate: float = 0.01

    summary: ClassVar[str] = "plain training on images without the pixels that a lasso deleted"
    source: ClassVar[str] = "Reducing information dependency ..., ICLR 2026, unseen pixels"
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        for name in ("weight", "ridge", "gamma"):
            check_weight(getattr(self, name), name)
        if not 0 < self.learning_rate < self.threshold < START:
            raise ValueError(
                f"0 < learning_rate < threshold < {START} must hold, or weights step over the "
                f"threshold, got {self.learning_rate:g} and {self.threshold:g}"
            )
        if not 0 <= self.settle < 1:
            raise ValueError(f"settle is a share of the steps in [0, 1), got {self.settle:g}")

    def prepare(self, model: nn.Module, *, public: Faces | None, seed: int) -> nn.Module:
        """Put a mask before the network, which deletes nothing yet."""
        return FrontEnd(PixelMask(), model)

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute CE(f(x), y); what the network sees of x is what differs."""
        return NoDefense().loss(model, images, labels, draws)

    def begin(self, model: nn.Module, course: Course) -> Session:
        """Begin a training without the pixels that are chosen as it starts."""
        inner = unwrap(model)
        mask = getattr(inner, "front", None)
        if not isinstance(mask, PixelMask):
            raise ValueError(
                "pixel_lasso needs a model that it prepared; "
                "call its prepare method before training"
            )
        return MaskedSession(self, mask, inner.body, course)


class OfChoice(Checkpoint):
    """The state of a choice, in the file of the training that is yet to begin."""

    def __init__(self, training: Checkpoint, number: int) -> None:
        super().__init__(
            training.path,
            f"{training.specification}, choice {number}",
            seconds=training.seconds,
            writes=training.writes,
        )

    def remove(self) -> None:
        """Leave the file: what comes next takes its place, and before that is begun from it."""


class MaskedSession(Session):
    """A training on images without their deleted pixels."""

    def __init__(
        self, options: PixelLasso, mask: PixelMask, body: nn.Module, course: Course
    ) -> None:
        super().__init__(options)
        self.options, self.mask, self.body, self.course = options, mask, body, course

    def start(self, checkpoint: Checkpoint | None) -> None:
        """Choose the pixels; a choice that was cut off goes on where it was.

        Raises:
            ValueError: none would be left.
        """
        images, options = self.course.faces.images, self.options
        penalties = torch.ones(images.shape[-2:], device=images.device)
        deleted = torch.zeros_like(penalties).bool()
        choices = [checkpoint and OfChoice(checkpoint, n) for n in range(1 + options.adaptive)]
        if choices[-1] is not None and choices[-1].load() is not None:
            choices = choices[-1:]  # its state has what the one before it found
        for kept in choices:
            weights = choose(options, self.body, self.course, penalties, deleted, kept)
            norms = weights.norm(dim=0)
            penalties, deleted = 1 / (norms**options.gamma + 1e-8), norms == 0
        if deleted.all():
            raise ValueError(
                f"pixel_lasso deleted every pixel at weight {options.weight:g}; "
                "use a smaller weight"
            )
        self.mask.deleted = nn.Buffer(deleted)

    def visible(self, images: Tensor) -> Tensor:
        """Delete the pixels before anything moves them; none before they are chosen."""
        return self.mask(images)

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute the loss, and record the share of pixels that are deleted."""
        terms = super().loss(model, images, labels, draws)
        share = self.mask.deleted.float().mean()
        return LossTerms(total=terms.total, curves={**terms.curves, "deleted": share})


def choose(
    options: PixelLasso,
    body: nn.Module,
    course: Course,
    penalties: Tensor,
    deleted: Tensor,
    checkpoint: Checkpoint | None,
) -> Tensor:
    """Choose pixels by training a copy of the network; every worker does all of it alike.

    Args:
        options: of the lasso.
        body: the untrained network, which is copied.
        course: its images and schedule.
        penalties: (H, W), factors of the penalty.
        deleted: (H, W) bool, pixels that are deleted from the start.
        checkpoint: of the choice; with a state, it has penalties and deleted pixels as well.

    Returns:
        (C, H, W) weights, exactly 0 where the pixel is deleted.
    """
    choice = Choice(options, course, penalties, deleted)
    train(
        deepcopy(body),
        course.faces,
        choice,
        replace(course.training, auxiliary_weight=0.0),  # it would see what the choice hides
        seed=derive_seed(course.seed, "choice of pixels"),
        checkpoint=checkpoint,
    )
    return choice.weights.detach() * ~choice.deleted


class Choice(Session, Defense):
    """The training of pixel weights beside a network; it is a defense of its own."""

    summary: ClassVar[str] = "the first part of pixel_lasso"
    source: ClassVar[str] = "see pixel_lasso"

    def __init__(
        self, options: PixelLasso, course: Course, penalties: Tensor, deleted: Tensor
    ) -> None:
        super().__init__(self)
        images = course.faces.images
        self.options = options
        self.penalties = penalties
        self.deleted = deleted.clone()
        self.weights = torch.full_like(images[0], START).requires_grad_()
        self.optimizer = torch.optim.Adam([self.weights], lr=options.learning_rate)
        self.settled = options.settle * course.steps_per_epoch * course.training.epochs
        self.step = 0

    def begin(self, model: nn.Module, course: Course) -> "Choice":
        """Begin: the training is its own session."""
        return self

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute ``CE(f(W x), y) + weight sum_ij |W_ij| + ridge sum_ij |W_ij|^2``."""
        weights = torch.where(self.deleted, torch.zeros_like(self.weights), self.weights)
        seen = GRAY + weights * (images - GRAY)
        clean = cross_entropy(model(seen), labels)
        squared = weights.square().sum(0)
        norms = torch.where(self.deleted, squared, squared + 1e-20).sqrt()
        norms = torch.where(self.deleted, torch.zeros_like(norms), norms)
        penalty = self.options.weight * (self.penalties * norms).sum()
        penalty = penalty + self.options.ridge * squared.sum()
        return LossTerms(
            total=clean + penalty,
            curves={"clean_loss": clean.detach(), "deleted": self.deleted.float().mean()},
        )

    @torch.no_grad()
    def after_step(self) -> None:
        """Step the pixel weights, and delete those below the threshold for good."""
        self.step += 1
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.step > self.settled:
            self.deleted |= self.weights.norm(dim=0) <= self.options.threshold
        self.weights[:, self.deleted] = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the choice."""
        return {
            "weights": self.weights.detach().clone(),
            "penalties": self.penalties,
            "deleted": self.deleted.clone(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with it."""
        self.weights.copy_(state["weights"])
        self.penalties = state["penalties"].to(self.penalties)
        self.deleted = state["deleted"].to(self.deleted)
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
