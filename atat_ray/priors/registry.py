"""Registry of priors by name; fit, save and load any of them."""

from pathlib import Path
from typing import Any

import torch

from atat_ray.data import Faces
from atat_ray.priors.base import Prior, PriorOptions
from atat_ray.utils.registry import Registry

PRIORS: Registry[type[PriorOptions]] = Registry(
    "prior",
    {
        "rotated_pca": "atat_ray.priors.pca:RotatedPCAOptions",
        "stylegan2": "atat_ray.priors.stylegan2:StyleGan2Options",
        "warped": "atat_ray.priors.warped:WarpedOptions",
    },
)


def priors_offering(part: str) -> list[str]:
    """List the names of the priors that offer a part: "stages" or "weights"."""
    return [name for name, options in PRIORS.items() if part in options.offers]


def fit_prior(options: PriorOptions, public: Faces, *, seed: int) -> Prior:
    """Fit a prior to public images, or read it from its file.

    Args:
        options: kind of prior and its settings.
        public: images of people outside the target model's training set.
        seed: seed of all draws.

    Raises:
        ValueError: there are no public images, or the prior's file cannot be read.
    """
    if not len(public) and options.needs_public:
        raise ValueError(
            f"a {options.kind.name} prior is fitted to public images and every class is private; "
            "lower num_private, so that some classes stay public"
        )
    return options.fit(public.images[:], torch.Generator().manual_seed(seed))


def prior_state(prior: Prior) -> dict[str, Any]:
    """Return name and content of a prior, in types that ``torch.load`` reads with weights_only.

    The state of a prior that was read from a file names the file by its hash and has no tensors.
    """
    return {"prior": prior.name, "tensors": prior.saved()}


def load_prior(state: dict[str, Any], file: Path | None = None) -> Prior:
    """Build a prior from its ``prior_state``.

    Args:
        state: return value of ``prior_state``.
        file: path of the weights file, for a prior that was read from one.

    Raises:
        ValueError: the state is of an unknown prior, or the file is missing or another one.
    """
    return PRIORS.find(str(state.get("prior"))).kind.restore(state["tensors"], file)
