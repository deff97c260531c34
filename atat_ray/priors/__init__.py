"""Priors: image generators that an inversion attack searches.

A prior maps latents from N(0, 1) to images in [0, 1]. It is fitted to public images only, or read
from a file of weights; private images never reach it. :data:`PRIORS` maps each name in protocols to
a class of options. ``docs/priors.md`` describes them.

>>> import torch
>>> from atat_ray.data import Data, load_split
>>> public = load_split(Data(name="orl_faces", num_private=24, num_train=7, size=32), 0).public
>>> prior = fit_prior(PRIORS["rotated_pca"](num_components=20, num_faces=60), public, seed=1)
>>> latents = prior.sample_latents(5, torch.Generator().manual_seed(2))
>>> latents.shape, prior.synthesize(latents).shape
(torch.Size([5, 20]), torch.Size([5, 1, 32, 32]))
>>> priors_offering("stages")
['stylegan2', 'warped']
"""

from atat_ray.priors.base import Prior, PriorOptions
from atat_ray.priors.registry import (
    PRIORS,
    fit_prior,
    load_prior,
    prior_state,
    priors_offering,
)
from atat_ray.priors.staged import StagedPrior, State

__all__ = [
    "PRIORS",
    "Prior",
    "PriorOptions",
    "StagedPrior",
    "State",
    "fit_prior",
    "load_prior",
    "prior_state",
    "priors_offering",
]
