"""Projected gradient descent (PGD) on images, towards a label or away from it."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from atat_ray.models.batch_norm_modes import STATISTICS, frozen_parameters
from atat_ray.models.layer_access import unwrap
from atat_ray.utils.precision import assert_true_float32
from atat_ray.utils.seeding import BatchDraws


def project(images: Tensor, center: Tensor, epsilon: float) -> Tensor:
    """Project onto the ball of radius epsilon (pixel units) around ``center``, and onto [0, 1]."""
    return torch.minimum(torch.maximum(images, center - epsilon), center + epsilon).clamp(0, 1)


def upsample(delta: Tensor, images: Tensor) -> Tensor:
    """Upsample a perturbation on a coarse grid to pixels: (N, C, g, g) -> (N, C, H, W)."""
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

    Implements Madry et al. (2018), Sec. 2.1. With ``targeted`` it minimises the loss of ``labels``,
    otherwise it maximises it. It returns the last iterate and does not change the mode of the
    model. A model wrapped in DistributedDataParallel is run without its wrapper.

    Args:
        model: images to logits.
        images: (N, C, H, W) float32 in [0, 1].
        labels: (N,) long, the labels to move towards or away from.
        epsilon: radius in pixel units.
        steps: gradient steps.
        step_size: in pixel units.
        targeted: move towards ``labels``.
        random_start: start uniformly in the ball.
        draws: randomness of the start.
        statistics: mode of batch normalisation, a key of STATISTICS.
        grid: cells along each side; the perturbation is constant in a cell. None for single pixels.

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
            perturbed = sign_step(inner, perturbed, labels, images, epsilon, step_size)
    return perturbed.detach()


def sign_step(
    model: nn.Module,
    perturbed: Tensor,
    labels: Tensor,
    images: Tensor,
    epsilon: float,
    step_size: float,
) -> Tensor:
    """Move perturbed images by ``step_size`` along the sign of the gradient, and project them.

    Args:
        model: images to logits.
        perturbed: (N, C, H, W), where the gradient is taken.
        labels: (N,) long.
        images: (N, C, H, W), centre of the ball.
        epsilon: radius of the ball in pixel units.
        step_size: in pixel units; below 0 towards the labels, above 0 away from them.
    """
    perturbed = perturbed.detach().requires_grad_()
    loss = cross_entropy(model(perturbed), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, perturbed)
    return project(perturbed.detach() + step_size * gradient.sign(), images, epsilon)


def coarse_pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    delta: Tensor,
    settings: tuple[float, int, float],
) -> Tensor:
    """Run PGD on a perturbation that is constant in each cell of a grid: delta (N, C, g, g)."""
    epsilon, steps, step_size = settings
    for _ in range(steps):
        delta = delta.detach().requires_grad_()
        perturbed = (images + upsample(delta, images)).clamp(0, 1)
        loss = cross_entropy(model(perturbed), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, delta)
        delta = (delta.detach() + step_size * gradient.sign()).clamp(-epsilon, epsilon)
    return (images + upsample(delta, images)).clamp(0, 1).detach()
