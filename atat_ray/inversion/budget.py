"""Options that all inversion attacks share."""

from dataclasses import dataclass

from atat_ray.inversion.losses import LOSSES
from atat_ray.utils.errors import unknown
from atat_ray.utils.option_fields import STRICT

# Plug & Play Attacks on FaceScrub (Struppek et al. 2022, Appendix); IF-GMI and PPDG use them too.
PAPER = {
    "learning_rate": 0.005,
    "betas": (0.1, 0.1),
    "crop_area": (0.9, 1.0),
    "latent_limit": None,
    "views": 100,
    "view_area": (0.5, 0.9),
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
        for name in ("batch_classes", "batch"):
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

    def parts(self, num_classes: int) -> list[range]:
        """Divide the classes into batches of ``batch_classes``."""
        step = self.batch_classes or num_classes
        return [range(c, min(c + step, num_classes)) for c in range(0, num_classes, step)]
