"""Projected gradient descent on images, towards a label or away from it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

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
) -> Tensor:
    """Perturb images by projected gradient descent on the cross-entropy, L-infinity.

    Implements Madry et al. (2018), Sec. 2.1; with ``targeted`` it descends towards ``labels``,
    else it ascends away from them. The last iterate is returned. The mode of the model stays as it
    is, but no running statistics move.

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

    Returns:
        Perturbed images of the same shape, within epsilon of ``images`` and in [0, 1].
    """
    assert_true_float32(images)
    direction = -1.0 if targeted else 1.0
    perturbed = images
    if random_start:
        noise = draws.uniform(-epsilon, epsilon, images, *images.shape[1:])
        perturbed = project(images + noise, images, epsilon)
    with frozen_statistics(model):
        for _ in range(steps):
            perturbed = perturbed.detach().requires_grad_()
            loss = cross_entropy(model(perturbed), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, perturbed)
            step = direction * step_size * gradient.sign()
            perturbed = project(perturbed.detach() + step, images, epsilon)
    return perturbed.detach()
