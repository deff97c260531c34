"""Priors: the image generators that an inversion attack searches."""

from atat_ray.priors.base import Prior
from atat_ray.priors.registry import PRIORS, load_prior, prior_state
from atat_ray.priors.staged import StagedPrior, State

__all__ = ["PRIORS", "Prior", "StagedPrior", "State", "load_prior", "prior_state"]
