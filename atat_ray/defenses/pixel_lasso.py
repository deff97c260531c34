"""Lasso pixel deletion: select the pixels that matter, delete the others, train on the rest.

The selection trains a copy of the network together with a weight for each pixel, with a group lasso
on the weights. A pixel whose weight falls below a threshold is deleted permanently. With
``adaptive`` the selection is repeated, with the penalty of each pixel divided by its weight from
the first round (Dinh and Ho 2020). Then the network itself is trained from its initial weights on
images without the deleted pixels. They are deleted before augmentation, so that no shift or flip
restores their content. The selection, finished or interrupted, is part of the state of the
training.
"""

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from atat_ray.data import Faces
from atat_ray.models.image_layers import GRAY, PixelMask
from atat_ray.models.layer_access import FrontEnd, unwrap
from atat_ray.training import train
from atat_ray.training.checkpoint import Checkpoint
from atat_ray.training.interface import Course, Defense, LossTerms, Session, check_weight
from atat_ray.training.no_defense import NoDefense
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import BatchDraws, derive_seed

START = 0.5  # initial weight of every pixel


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelLasso(Defense):
    """Options of pixel deletion.

    Attributes:
        weight: of the penalty ``sum |W_ij|_2``, added to the mean cross-entropy; at least 0.
        ridge: weight of ``sum |W_ij|_2^2``, at least 0.
        adaptive: select twice, the second time with adaptive penalties.
        gamma: power of the weights in adaptive penalties.
        threshold: pixels with a smaller weight are deleted.
        settle: share of the first steps of each selection in which no pixel is deleted.
        learning_rate: of the pixel weights (Adam). It must be below the threshold, because a larger
            step could jump over the threshold.
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
        """Add a mask before the network; it deletes no pixel yet."""
        return FrontEnd(PixelMask(), model)

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute CE(f(x), y); the defense differs in the pixels of x that the network sees."""
        return NoDefense().loss(model, images, labels, draws)

    def begin(self, model: nn.Module, course: Course) -> Session:
        """Begin a training; its start selects the pixels to delete."""
        inner = unwrap(model)
        mask = getattr(inner, "front", None)
        if not isinstance(mask, PixelMask):
            raise ValueError(
                "pixel_lasso needs a model that it prepared; "
                "call its prepare method before training"
            )
        return MaskedSession(self, mask, inner.body, course)


class SelectionCheckpoint(Checkpoint):
    """Checkpoint of a selection, in the file of the training that follows."""

    def __init__(self, training: Checkpoint, number: int) -> None:
        super().__init__(
            training.path,
            f"{training.specification}, choice {number}",
            seconds=training.seconds,
            writes=training.writes,
        )

    def remove(self) -> None:
        """Keep the file; the next stage resumes from it and then overwrites it."""


class MaskedSession(Session):
    """A training on images without the deleted pixels."""

    def __init__(
        self, options: PixelLasso, mask: PixelMask, body: nn.Module, course: Course
    ) -> None:
        super().__init__(options)
        self.options, self.mask, self.body, self.course = options, mask, body, course

    def start(self, checkpoint: Checkpoint | None) -> None:
        """Select the pixels, resuming an interrupted selection.

        Raises:
            ValueError: no pixel would be left.
        """
        images, options = self.course.faces.images, self.options
        penalties = torch.ones(images.shape[-2:], device=images.device)
        deleted = torch.zeros_like(penalties).bool()
        selections = [
            checkpoint and SelectionCheckpoint(checkpoint, n) for n in range(1 + options.adaptive)
        ]
        if selections[-1] is not None and selections[-1].load() is not None:
            selections = selections[-1:]  # its state contains the result of the first one
        for kept in selections:
            weights = select_pixels(options, self.body, self.course, penalties, deleted, kept)
            norms = weights.norm(dim=0)
            penalties, deleted = 1 / (norms**options.gamma + 1e-8), norms == 0
        if deleted.all():
            raise ValueError(
                f"pixel_lasso deleted every pixel at weight {options.weight:g}; "
                "use a smaller weight"
            )
        self.mask.deleted = nn.Buffer(deleted)

    def visible(self, images: Tensor) -> Tensor:
        """Delete the pixels before augmentation moves them; none before the selection."""
        return self.mask(images)

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute the loss and record the share of deleted pixels."""
        terms = super().loss(model, images, labels, draws)
        share = self.mask.deleted.float().mean()
        return LossTerms(total=terms.total, curves={**terms.curves, "deleted": share})


def select_pixels(
    options: PixelLasso,
    body: nn.Module,
    course: Course,
    penalties: Tensor,
    deleted: Tensor,
    checkpoint: Checkpoint | None,
) -> Tensor:
    """Select pixels by training a copy of the network; every worker does the same work.

    Args:
        options: of the defense.
        body: the untrained network, which is copied.
        course: images and schedule of the training.
        penalties: (H, W), factors of the penalty.
        deleted: (H, W) bool, pixels that are deleted initially.
        checkpoint: of the selection; its state, if any, includes penalties and deleted pixels.

    Returns:
        (C, H, W) weights, exactly 0 where the pixel is deleted.
    """
    selection = Selection(options, course, penalties, deleted)
    train(
        deepcopy(body),
        course.faces,
        selection,
        replace(
            course.training, auxiliary_weight=0.0
        ),  # the auxiliary head would see the hidden pixels
        seed=derive_seed(course.seed, "choice of pixels"),
        checkpoint=checkpoint,
    )
    return selection.weights.detach() * ~selection.deleted


class Selection(Session, Defense):
    """Joint training of pixel weights and a network; both the defense and its session."""

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

    def begin(self, model: nn.Module, course: Course) -> "Selection":
        """Return this object, which is its own session."""
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
        """Update the pixel weights and delete pixels below the threshold permanently."""
        self.step += 1
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.step > self.settled:
            self.deleted |= self.weights.norm(dim=0) <= self.options.threshold
        self.weights.masked_fill_(self.deleted, 0)

    def state_dict(self) -> dict[str, Any]:
        """Return weights, penalties, deleted pixels, optimizer and step."""
        return {
            "weights": self.weights.detach().clone(),
            "penalties": self.penalties,
            "deleted": self.deleted.clone(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state."""
        self.weights.copy_(state["weights"])
        self.penalties = state["penalties"].to(self.penalties)
        self.deleted = state["deleted"].to(self.deleted)
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
