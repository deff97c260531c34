"""Batch normalisation with separate parameters and statistics for perturbed images."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from torch import Tensor, nn

from atat_ray.models.layer_access import unwrap


class SplitBatchNorm(nn.Module):
    """Two layers of batch normalisation, one for clean and one for perturbed images.

    Implements the auxiliary batch normalisation of Xie et al. (2020), "Adversarial examples improve
    image recognition" (AdvProp), Sec. 4.
    """

    def __init__(self, layer: nn.BatchNorm2d) -> None:
        super().__init__()
        self.clean = layer
        self.perturbed = deepcopy(layer)
        self.use_perturbed = False

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape, normalised by the layer in use."""
        return self.perturbed(maps) if self.use_perturbed else self.clean(maps)


def split_statistics(model: nn.Module) -> nn.Module:
    """Replace every BatchNorm2d of a model by a :class:`SplitBatchNorm`, in place.

    Raises:
        ValueError: the model has no BatchNorm2d.
    """
    if not split_layers(model):
        raise ValueError(
            f"adversarial_pass 'split' needs batch normalisation, which {type(model).__name__} "
            "does not have; use 'shared'"
        )
    return model


def split_layers(model: nn.Module) -> int:
    """Replace the layers and return their number."""
    count = 0
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(model, name, SplitBatchNorm(child))
            count += 1
        else:
            count += split_layers(child)
    return count


@contextmanager
def adversarial_statistics(model: Any) -> Iterator[None]:
    """Use the layers for perturbed images inside the block.

    Raises:
        ValueError: the model has no such layers, because ``split_statistics`` did not prepare it.
    """
    layers = [m for m in unwrap(model).modules() if isinstance(m, SplitBatchNorm)]
    if not layers:
        raise ValueError(
            "adversarial_pass 'split' needs a model that the defense prepared; "
            "call its prepare method before training"
        )
    for layer in layers:
        layer.use_perturbed = True
    try:
        yield
    finally:
        for layer in layers:
            layer.use_perturbed = False
