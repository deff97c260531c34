"""Options of the bounds that are measured on a trained target model."""

from dataclasses import dataclass, replace

from atat_ray.utils.errors import unknown
from atat_ray.utils.option_fields import STRICT

LAYERS = ("features", "outputs")
LEAST_SCALE = 1e-6  # below it, float64 loses the smallest change that a search makes


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Options of Fisher information loss and HCR bounds of the image given to a target model.

    Attributes:
        noise_scales: standard deviations of the noise on what is released, as multiples of its
            root mean square over the images.
        layer: what is released: "features" (penultimate) or "outputs" (logits).
        images: private test images that are measured, drawn at random; at least 1.
        pixels: coordinates (pixels times channels) whose HCR bound is searched, drawn at random,
            as many of the deleted as of the kept ones; at least 1.
        power_steps: most steps of the power iteration, and
        probes: probes of the trace, where the Jacobian is too large to be computed; at least 1
            and 2.
    """

    noise_scales: tuple[float, ...]
    layer: str = "features"
    images: int = 8
    pixels: int = 8
    power_steps: int = 1000
    probes: int = 64

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if self.layer not in LAYERS:
            raise unknown("layer", self.layer, LAYERS)
        scales = self.noise_scales
        if not scales or len(set(scales)) < len(scales) or not min(scales) >= LEAST_SCALE:
            raise ValueError(
                f"noise_scales must be different numbers of {LEAST_SCALE:g} or more, got "
                f"{', '.join(f'{scale:g}' for scale in scales) or 'none'}"
            )
        if self.images < 1 or self.pixels < 1:
            raise ValueError(
                f"images and pixels must be 1 or more, got {self.images} and {self.pixels}"
            )
        if self.power_steps < 1 or self.probes < 2:
            raise ValueError(
                f"power_steps must be 1 or more and probes 2 or more, got {self.power_steps} and "
                f"{self.probes}"
            )

    def minimal(self) -> "Bounds":
        """Return the options of a measure that takes every step once."""
        return replace(self, images=1, pixels=1, power_steps=1, probes=2)
