"""StyleGAN2 (Karras et al. 2020) as a prior, in plain PyTorch, from a file of safetensors."""

from atat_ray.priors.stylegan2.prior import StyleGan2Options, StyleGan2Prior

__all__ = ["StyleGan2Options", "StyleGan2Prior"]
