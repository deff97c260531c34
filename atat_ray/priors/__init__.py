"""Priors: the image generators that an inversion attack searches, fitted to public images alone."""

from typing import Any

from atat_ray.priors.pca import RotatedPCAOptions, RotatedPCAPrior
from atat_ray.priors.prior import Prior
from atat_ray.priors.warped import WarpedOptions, WarpedPrior

__all__ = [
    "PRIORS",
    "Prior",
    "RotatedPCAOptions",
    "RotatedPCAPrior",
    "WarpedOptions",
    "WarpedPrior",
    "load_prior",
    "prior_state",
]

# What a protocol can name. Each is a dataclass of options with fit(public_images, generator).
PRIORS: dict[str, type[WarpedOptions] | type[RotatedPCAOptions]] = {
    "rotated_pca": RotatedPCAOptions,
    "warped": WarpedOptions,
}

_FITTED: dict[str, type[Prior]] = {kind.name: kind for kind in (RotatedPCAPrior, WarpedPrior)}


def prior_state(prior: Prior) -> dict[str, Any]:
    """Give the name and the tensors of a prior, which ``torch.load`` reads with weights_only."""
    tensors = {name: tensor.cpu() for name, tensor in prior.state_dict().items()}
    return {"prior": prior.name, "tensors": tensors}


def load_prior(state: dict[str, Any]) -> Prior:
    """Make the prior whose ``prior_state`` this is.

    Raises:
        ValueError: the state is of no prior known here.
    """
    name = state.get("prior")
    if name not in _FITTED:
        raise ValueError(f"unknown prior {name!r}; known: {', '.join(sorted(_FITTED))}")
    return _FITTED[name](**state["tensors"])
