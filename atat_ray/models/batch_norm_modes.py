"""Switch batch normalisation, evaluation mode and gradients of a model for a block of code."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from atat_ray.utils.errors import unknown


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Let batch normalisation use batch statistics without moving its running statistics."""
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
    """Put every part of a model into evaluation mode inside the block."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def frozen_parameters(model: nn.Module) -> Iterator[None]:
    """Ask for no gradient at the parameters inside the block: PGD needs that at the images only."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


# What batch normalisation does while PGD runs a model that is being trained.
STATISTICS = {
    "batch": frozen_statistics,  # those of the batch; the running ones stay
    "running": evaluation_mode,  # the whole model is in evaluation mode
    "moving": nullcontext,  # those of the batch, and the running ones move, as in earlier code
}


def check_statistics(statistics: str) -> None:
    """Refuse a name that is not in STATISTICS.

    Raises:
        ValueError: it is unknown.
    """
    if statistics not in STATISTICS:
        raise unknown("statistics of batch normalisation", statistics, STATISTICS)
