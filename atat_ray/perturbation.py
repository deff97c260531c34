"""Projected gradient descent on images, towards a label or away from it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate
from torch.nn.modules.batchnorm import _BatchNorm

from atat_ray.models.inner import unwrap
from atat_ray.names import unknown
from atat_ray.precision import assert_true_float32
from atat_ray.seeding import BatchDraws


def check_epsilon(epsilon: float, name: str = "epsilon") -> None:
    """Refuse an epsilon that is not an L-infinity radius in pixel units.

    Raises:
        ValueError: outside (0, 1]; numbers above 1 are read as gray levels in the advice.
    """
    if 0 < epsilon <= 1:
        return
    hint = f"; for {epsilon:g}/255 write {epsilon / 255:.6g}" if 1 < epsilon <= 255 else ""
    raise ValueError(
        f"{name} is an L-infinity radius in pixel units, images in [0, 1]: "
        f"it must be above 0 and at most 1, got {epsilon:g}{hint}"
    )


def project(images: Tensor, center: Tensor, epsilon: float) -> Tensor:
    """Project onto the ball of radius epsilon (pixel units) around ``center``, and onto [0, 1]."""
    return torch.minimum(torch.maximum(images, center - epsilon), center + epsilon).clamp(0, 1)


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


def enlarge(delta: Tensor, images: Tensor) -> Tensor:
    """Spread a perturbation on a coarse grid over the pixels: (N, C, g, g) -> (N, C, H, W)."""
    return interpolate(delta, size=images.shape[-2:], mode="nearest")


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: int,
    step_size: float,
    targeted: bool,
    random_start: bool,
    draws: BatchDraws,
    statistics: str = "batch",
    grid: int | None = None,
) -> Tensor:
    """Perturb images by projected gradient descent on the cross-entropy, L-infinity.

    Implements Madry et al. (2018), Sec. 2.1; with ``targeted`` it descends towards ``labels``,
    else it ascends away from them. The last iterate is returned. The mode of the model stays as it
    is. A model that averages gradients over workers is run without its wrapper.

    Args:
        model: images to logits.
        images: (N, C, H, W) float32 in [0, 1].
        labels: (N,) long, the labels to reach or to leave.
        epsilon: radius in pixel units.
        steps: gradient steps.
        step_size: in pixel units.
        targeted: descend towards ``labels``.
        random_start: start uniformly in the ball.
        draws: randomness of the start.
        statistics: a key of STATISTICS.
        grid: cells along each side that the perturbation is constant in; None for single pixels.

    Returns:
        Perturbed images of the same shape, within epsilon of ``images`` and in [0, 1].
    """
    assert_true_float32(images)
    inner = unwrap(model)
    step_size = -step_size if targeted else step_size
    shape = images.shape[1:] if grid is None else (images.shape[1], grid, grid)
    start = draws.uniform(-epsilon, epsilon, images, *shape) if random_start else None
    mode: AbstractContextManager[object] = STATISTICS[statistics](inner)
    with mode, frozen_parameters(inner):
        if grid is not None:
            start = images.new_zeros(len(images), *shape) if start is None else start
            return coarse_pgd(inner, images, labels, start, (epsilon, steps, step_size))
        perturbed = images if start is None else project(images + start, images, epsilon)
        for _ in range(steps):
            perturbed = perturbed.detach().requires_grad_()
            loss = cross_entropy(inner(perturbed), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, perturbed)
            perturbed = project(perturbed.detach() + step_size * gradient.sign(), images, epsilon)
    return perturbed.detach()


def coarse_pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    delta: Tensor,
    settings: tuple[float, int, float],
) -> Tensor:
    """Take the steps of PGD on a perturbation that is constant in each cell of a grid."""
    epsilon, steps, step_size = settings
    for _ in range(steps):
        delta = delta.detach().requires_grad_()
        perturbed = (images + enlarge(delta, images)).clamp(0, 1)
        loss = cross_entropy(model(perturbed), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, delta)
        delta = (delta.detach() + step_size * gradient.sign()).clamp(-epsilon, epsilon)
    return (images + enlarge(delta, images)).clamp(0, 1).detach()
