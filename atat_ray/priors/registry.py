"""Priors: the image generators that an inversion attack searches.

They are fitted to public images alone, or were trained by somebody else and are read from a file.
"""

from pathlib import Path
from typing import Any

from atat_ray.priors.base import Prior
from atat_ray.priors.pca import RotatedPCAOptions, RotatedPCAPrior
from atat_ray.priors.stylegan2 import StyleGan2Options, StyleGan2Prior
from atat_ray.priors.warped import WarpedOptions, WarpedPrior

# What a protocol can name. Each is a dataclass of options with fit(public_images, generator).
PRIORS: dict[str, type[WarpedOptions] | type[RotatedPCAOptions] | type[StyleGan2Options]] = {
    "rotated_pca": RotatedPCAOptions,
    "stylegan2": StyleGan2Options,
    "warped": WarpedOptions,
}

_KINDS: dict[str, type[Prior]] = {
    kind.name: kind for kind in (RotatedPCAPrior, StyleGan2Prior, WarpedPrior)
}


def prior_state(prior: Prior) -> dict[str, Any]:
    """Give the name and the tensors of a prior, which ``torch.load`` reads with weights_only.

    Of a prior that is in a file of its own there are no tensors, but what names that file.
    """
    return {"prior": prior.name, "tensors": prior.saved()}


def load_prior(state: dict[str, Any], path: str | None = None) -> Prior:
    """Make the prior whose ``prior_state`` this is.

    Args:
        state: of the prior.
        path: of the file of a prior that is in one.

    Raises:
        ValueError: the state is of no prior known here, or the file is not the one it names.
    """
    name = state.get("prior")
    if name not in _KINDS:
        raise ValueError(f"unknown prior {name!r}; known: {', '.join(sorted(_KINDS))}")
    kind = _KINDS[name]
    if not kind.in_file:
        return kind(**state["tensors"])
    if path is None:
        raise ValueError(f"the prior {name} is in a file of its own; give its path")
    return kind.read(Path(path), **state["tensors"])
