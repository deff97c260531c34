"""Right? Whether repeated work gives the same bits, and which operations do not."""

import re
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from atat_ray.dependence.hsic import hsic
from atat_ray.utils.precision import true_float32
from gpu_parts.agreement import (
    OPTIONS,
    defended,
    dependence,
    discriminant,
    generator_gradient,
    searched,
    trained,
)
from gpu_parts.scenes import atat, make_faces, make_loop, make_target
from gpu_parts.session import Bench


def repeats_part(bench: Bench) -> None:
    """Repeat every kind of computation and compare the results bit for bit."""
    device = bench.device
    work: dict[str, Callable[[], Tensor]] = {
        "weights after a step of AT-AT": lambda: trained(device),
        **{f"gradient of {name}": lambda n=name: defended(n, device)[1] for name in OPTIONS},
        "hsic": lambda: dependence(hsic, device),
        "logits of the LDA": lambda: discriminant(device),
        "latents after a step of PPA": lambda: searched(device),
        **{
            f"StyleGAN2 of {side} pixels, gradient at w": lambda s=side: generator_gradient(
                bench, s, device
            )
            for side in bench.sizes.generators
        },
        **{
            f"weights after a step of AT-AT: {network}": lambda n=network: large(bench, n)
            for network in bench.sizes.trained
        },
    }
    for what, function in work.items():
        bench.measure(what, lambda function=function: repeat(function))


def large(bench: Bench, network: Any) -> Tensor:
    """Return the last layer's biases after one step of AT-AT of a large network."""
    faces = make_faces(network, bench.device, classes=bench.sizes.classes)
    model = make_target(network, bench.device, classes=bench.sizes.classes)
    loop = make_loop(model, faces, atat())
    with true_float32():
        loop.step(torch.arange(len(faces)))
    return next(reversed(list(model.parameters()))).detach()


def repeat(function: Callable[[], Tensor]) -> dict[str, Any]:
    """Compare two results with PyTorch's usual algorithms, and two with its repeatable ones.

    PyTorch names the operations for which it has no repeatable algorithm.
    """
    one, other = function().detach(), function().detach()
    same = torch.equal(one, other)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            repeatable = torch.equal(function(), function())
        finally:
            torch.use_deterministic_algorithms(False)
    told = [re.match(r"(\w+) does not have a deterministic", str(w.message)) for w in caught]
    names = sorted({match.group(1) for match in told if match})
    return {
        "verdict": "agrees" if same else "differs",
        "largest difference": float((one - other).abs().max()),
        "same with repeatable algorithms": "yes" if repeatable else "no",
        "note": f"not repeatable by PyTorch's list: {', '.join(names)}" if names else "",
    }
