"""Fast? A training step whose network torch.compile has compiled."""

import time
from typing import Any

import torch
from torch import nn

from atat_ray.training.no_defense import NoDefense
from atat_ray.utils.precision import true_float32
from gpu_parts.scenes import atat, make_faces, make_loop, make_target, step_of
from gpu_parts.session import Bench
from gpu_parts.timing import peak_mib, seconds, wait
from gpu_parts.training_speed import step_label


def compiled_part(bench: Bench) -> None:
    """Time compiled steps; compilation is counted by itself."""
    for name, defense in (("AT-AT, K = 5", atat()), ("plain", NoDefense())):
        label = step_label(bench.sizes.compiled, name, "compiled")
        bench.measure(label, lambda defense=defense: compiled_step(bench, defense))


def compiled_step(bench: Bench, defense: Any) -> dict[str, Any]:
    """Time a step of the compiled network."""
    network = bench.sizes.compiled
    faces = make_faces(network, bench.device, classes=bench.sizes.classes)
    model = make_target(network, bench.device, classes=bench.sizes.classes)
    fast: nn.Module = torch.compile(model, backend=bench.sizes.compiler)  # type: ignore[assignment]
    step = step_of(make_loop(fast, faces, defense))
    with true_float32():
        start = time.perf_counter()
        step()
        wait(bench.device)
        first = time.perf_counter() - start
        spent = seconds(step, bench.device, steps=bench.sizes.steps)
        memory = peak_mib(step, bench.device)
    return {
        "ms a step": 1e3 * spent,
        "images a second": network.batch / spent,
        "peak MiB": memory,
        "seconds of the first step": first,
        "note": f"backend {bench.sizes.compiler}",
    }
