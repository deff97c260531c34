"""Contexts that switch batch normalisation, evaluation mode or gradients of a model."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from atat_ray.utils.errors import unknown


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Use batch statistics inside the block without updating the running statistics."""
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode inside the block; restore the mode of every module."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def frozen_parameters(model: nn.Module) -> Iterator[None]:
    """Compute no gradients of parameters inside the block; PGD needs those of the images only."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


# Statistics that batch normalisation uses while PGD runs a model in training.
STATISTICS = {
    "batch": frozen_statistics,  # batch statistics; running statistics are not updated
    "running": evaluation_mode,  # running statistics; the whole model is in evaluation mode
    "moving": nullcontext,  # batch statistics; running ones are updated, as in reference code
}


def check_statistics(statistics: str) -> None:
    """Refuse a name that is not in STATISTICS.

    Raises:
        ValueError: the name is unknown.
    """
    if statistics not in STATISTICS:
        raise unknown("statistics of batch normalisation", statistics, STATISTICS)
