"""Right? The signs of the gradients that PGD follows, and what TF32 and half precision change."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy

from atat_ray.models.batch_norm_modes import frozen_parameters, frozen_statistics
from atat_ray.robustness.pgd import pgd
from atat_ray.utils.precision import ROUNDING, true_float32
from atat_ray.utils.seeding import BatchDraws, generator
from gpu_parts.scenes import ATAT, make_faces, make_target
from gpu_parts.session import Bench, relative_difference
from gpu_parts.sizes import Network

EXACT = 1e-5  # relative error of a product in float32; that of TF32 is about 3e-4
FEW = 0.02  # share of signs that may differ from float64


def precision_part(bench: Bench) -> None:
    """Compare gradient signs with float64, and products with and without rounding."""
    for rounded in (False, True):
        where = "as PyTorch rounds by default" if rounded else "inside true_float32"
        for name, function in (("product", product), ("convolution", convolution)):
            bench.measure(
                f"float32 {name} {where}",
                lambda function=function, rounded=rounded: error(bench, function, rounded),
            )
    for name in ("fp16", "bf16"):
        bench.measure(f"sums of {name} products", lambda name=name: reduced_sums(name))
    for network in bench.sizes.signs:
        for rounded in (False, True) if bench.on_gpu else (False,):
            words = ", TF32 on" if rounded else ""
            bench.measure(
                f"signs of PGD against float64: {network}{words}",
                lambda network=network, rounded=rounded: signs(bench, network, rounded),
            )


def product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply two matrices."""
    return a @ b


def convolution(a: Tensor, b: Tensor) -> Tensor:
    """Convolve 16 x 16 maps of 64 channels, cut from two matrices of 256 rows or more."""
    maps, weights = a[:256, :256].reshape(4, 64, 16, 16), b[:36, :256].reshape(16, 64, 3, 3)
    return conv2d(maps, weights)


def error(bench: Bench, function: Any, rounded: bool) -> dict[str, Any]:
    """Compute the relative error of an operation in float32 against float64."""
    draws, side = generator("matrices"), min(bench.sizes.matrix, 1024)
    a, b = (torch.randn(side, side, generator=draws).to(bench.device) for _ in range(2))
    if rounded:
        found = function(a, b)
    else:
        with true_float32():
            found = function(a, b)
    difference = relative_difference(found, function(a.double(), b.double()))
    switches = ", ".join(operation.fp32_precision for operation in ROUNDING[:2])
    if rounded:
        return {"relative error": difference, "note": f"switches: {switches}"}
    verdict = "agrees" if difference <= EXACT else "differs"
    return {"verdict": verdict, "relative error": difference, "allowed": EXACT}


def reduced_sums(name: str) -> dict[str, Any]:
    """Read whether sums of half-precision products may be rounded; only autocast uses them."""
    allowed = getattr(torch.backends.cuda.matmul, f"allow_{name}_reduced_precision_reduction")
    return {"note": f"reduced precision is {'on' if allowed else 'off'}; float32 does not use it"}


def signs(bench: Bench, network: Network, rounded: bool) -> dict[str, Any]:
    """Count the pixels that one step of PGD moves the other way than float64 does."""
    faces = make_faces(network, bench.device, classes=bench.sizes.classes)
    images, labels = faces.images[:], faces.labels
    model = make_target(network, bench.device, classes=bench.sizes.classes).train()
    step = {**ATAT, "steps": 1, "step_size": ATAT["epsilon"], "random_start": False}
    del step["weight"]
    if rounded:
        moved = gradient(model, images, labels).neg().sign()
    else:
        with true_float32():
            found = pgd(
                model, images, labels, targeted=True, draws=BatchDraws(generator(0)), **step
            )
        moved = (found - images).sign()
    exact = gradient(deepcopy(model).cpu().double(), images.cpu().double(), labels.cpu())
    share = float((moved.cpu() != exact.neg().sign()).float().mean())
    verdict = "measured" if rounded else "agrees" if share <= FEW else "differs"
    return {"verdict": verdict, "share of signs that differ": share, "allowed": FEW}


def gradient(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Compute the gradient of the summed cross-entropy at the images, as PGD does."""
    images = images.clone().requires_grad_()
    with frozen_statistics(model), frozen_parameters(model):
        loss = cross_entropy(model(images), labels, reduction="sum")
        return torch.autograd.grad(loss, images)[0]
