"""The StyleGAN2 prior, read from a file of weights; no code of the file is run."""

from atat_ray.priors.stylegan2.prior import StyleGan2Options, StyleGan2Prior

__all__ = ["StyleGan2Options", "StyleGan2Prior"]
