"""Options that all inversion attacks share."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atat_ray.inversion.losses import LOSSES
from atat_ray.utils.errors import unknown
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import generator

# Common to the attacks on StyleGAN2 in the configuration of the AT-AT paper. One class at a time
# and 25 candidates in memory fit a GPU of 24 GB.
PAPER = {
    "learning_rate": 0.005,
    "betas": (0.1, 0.1),
    "crop_area": (0.9, 1.0),
    "latent_limit": None,
    "views": 100,
    "view_area": (0.5, 0.9),
    "batch_classes": 1,
    "batch": 25,
}
# The embedded ORL trial: seconds on a CPU, for priors with whitened latents.
QUICK = {
    "samples": 100,
    "candidates": 8,
    "keep": 4,
    "learning_rate": 0.05,
    "betas": (0.1, 0.1),
    "crop_area": (0.9, 1.0),
    "latent_limit": 2.5,
    "views": 20,
    "view_area": (0.5, 0.9),
    "clamp": True,
}
SPACES = ("latents", "styles")


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """Number of candidates of an attack, and how they are optimised and selected.

    Attributes:
        samples: latents drawn once for all classes, from which the candidates are chosen.
        candidates: latents optimised for each class.
        learning_rate: learning rate of Adam.
        betas: betas of Adam; PPA uses (0.1, 0.1).
        crop_area: (least, largest) share of the image kept by the random crop of each step; every
            candidate has its own crop.
        latent_limit: the searched tensor and the samples are clamped to [-limit, limit]; null
            means no limit.
        keep: reconstructions kept for each class by the final selection.
        views: random views on which the final selection scores a reconstruction.
        view_area: (least, largest) share of the image in these views.
        view_ratio: (least, largest) ratio of width to height of these views.
        clamp: whether images are clamped to [0, 1] while they are optimised and in the final
            selection. A clamped pixel has no gradient. The published codes clamp only the samples
            from which the candidates are chosen. Samples and reported images are always clamped.
        attacked_classes: number of classes to attack; all if null. They are drawn at random from
            the target model's classes, the same in every unit, and a smaller number is a part of a
            larger one.
        batch_classes: classes attacked at a time; all if null. Each such batch is one part of the
            attack, which is stored by itself and which another process may run.
        loss: key of LOSSES.
        batch: candidates in memory at a time; all candidates of a part if null.
    """

    samples: int
    candidates: int
    learning_rate: float
    betas: tuple[float, float]
    crop_area: tuple[float, float]
    latent_limit: float | None
    keep: int
    views: int
    view_area: tuple[float, float]
    view_ratio: tuple[float, float] = (0.8, 1.2)
    clamp: bool = False
    attacked_classes: int | None = None
    batch_classes: int | None = None
    loss: str = "poincare"
    batch: int | None = None

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not 1 <= self.keep <= self.candidates <= self.samples:
            raise ValueError(
                "1 <= keep <= candidates <= samples must hold, "
                f"got keep {self.keep}, candidates {self.candidates}, samples {self.samples}"
            )
        if self.views < 1:
            raise ValueError(f"views must be 1 or more, got {self.views}")
        for name in ("attacked_classes", "batch_classes", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}; omit it for all")
        for name in ("learning_rate", "latent_limit"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value:g}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be at least 0 and below 1, got {list(self.betas)}")
        if self.loss not in LOSSES:
            raise unknown("loss", self.loss, LOSSES)
        for name in ("crop_area", "view_area"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 1:
                raise ValueError(
                    f"{name} must be (least, largest) shares of the image in (0, 1], "
                    f"got {low}, {high}"
                )
        low, high = self.view_ratio
        if not 0 < low <= high:
            raise ValueError(
                f"view_ratio must be (least, largest) ratios above 0, got {low}, {high}"
            )

    def attacked(self, num_classes: int) -> Sequence[int]:
        """List the classes to attack, in rising order.

        Raises:
            ValueError: the target model has fewer classes.
        """
        if self.attacked_classes is None:
            return range(num_classes)
        if self.attacked_classes > num_classes:
            raise ValueError(
                f"attacked_classes must be at most {num_classes}, the number of classes, "
                f"got {self.attacked_classes}; omit it for all"
            )
        order = torch.randperm(num_classes, generator=generator("attacked classes"))
        return sorted(order[: self.attacked_classes].tolist())

    def parts(self, num_classes: int) -> list[Sequence[int]]:
        """Divide the attacked classes into batches of ``batch_classes``."""
        classes = self.attacked(num_classes)
        step = self.batch_classes or len(classes)
        return [classes[first : first + step] for first in range(0, len(classes), step)]

    def searched(self, images: Tensor) -> Tensor:
        """Return images of a prior as the target model sees them while they are searched."""
        return images.clamp(0, 1) if self.clamp else images
