"""The options that all inversion attacks share."""

from dataclasses import dataclass, replace
from typing import Self

from atat_ray.inversion.losses import LOSSES
from atat_ray.utils.errors import unknown
from atat_ray.utils.option_fields import STRICT, later

# Of Plug & Play Attacks on FaceScrub (Struppek et al. 2022, Appendix), which IF-GMI and PPDG share.
PAPER = {
    "learning_rate": 0.005,
    "betas": (0.1, 0.1),
    "crop_area": (0.9, 1.0),
    "latent_limit": None,
    "views": 100,
    "view_area": (0.5, 0.9),
}
# Of the embedded trial: seconds on a CPU, for priors whose latents are whitened.
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
}
SPACES = ("latents", "styles")


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """How many candidates an attack has, and how it moves and chooses them.

    Attributes:
        samples: latents drawn to choose candidates from, shared by all classes.
        candidates: latents optimised for each class.
        learning_rate: of Adam.
        betas: of Adam; PPA uses (0.1, 0.1).
        crop_area: share of the image kept by the random crop of each step, one crop a candidate.
        latent_limit: what is searched is clamped to [-limit, limit] after each step, and the
            samples too; nothing is if null.
        keep: reconstructions kept for each class by the final selection.
        views: random views that the final selection scores a reconstruction on.
        view_area: share of the image in these views.
        batch_classes: classes attacked at a time; all if not given. A part of the attack that is
            kept, and that another process may do, is one such batch.
        loss: a key of LOSSES.
        batch: candidates in memory at a time; all those of a part if not given.
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
    batch_classes: int | None = later(None)
    loss: str = later("poincare")
    batch: int | None = later(None)

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not 1 <= self.keep <= self.candidates <= self.samples:
            raise ValueError(
                "1 <= keep <= candidates <= samples must hold, "
                f"got keep {self.keep}, candidates {self.candidates}, samples {self.samples}"
            )
        if self.views < 1:
            raise ValueError(f"views must be 1 or more, got {self.views}")
        for name in ("batch_classes", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}; leave it out for all")
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
                    f"{name} is (least, largest) share of the image in (0, 1], got {low}, {high}"
                )

    def once(self) -> Self:
        """Give the budget that takes every step once, on as many images at a time as this one."""
        return replace(self, views=1)

    def least(self) -> Self:
        """Give the budget that takes every step once, on one candidate of one class."""
        least = ("samples", "candidates", "keep", "batch_classes", "pseudo_private")
        return replace(self.once(), **{name: 1 for name in least if hasattr(self, name)})

    def samples_of_all(self, num_classes: int) -> int:
        """Count the samples that are scored for so many classes in one process."""
        return self.samples

    def parts(self, num_classes: int) -> list[range]:
        """Divide the classes into those that are attacked at a time."""
        step = self.batch_classes or num_classes
        return [range(c, min(c + step, num_classes)) for c in range(0, num_classes, step)]
