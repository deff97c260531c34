"""StyleGAN2 as a prior, read from a file without running it."""

from atat_ray.priors.stylegan2.prior import StyleGan2Options, StyleGan2Prior

__all__ = ["StyleGan2Options", "StyleGan2Prior"]
