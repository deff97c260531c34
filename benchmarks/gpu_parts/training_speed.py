"""Fast? Steps of plain training, AT-AT and adversarial training, and of the evaluation model."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from atat_ray.data import Faces
from atat_ray.data.stored_images import StoredImages
from atat_ray.defenses.adversarial import Adversarial
from atat_ray.defenses.decoy_noise import DecoyNoise
from atat_ray.training.interface import Defense
from atat_ray.training.no_defense import NoDefense
from atat_ray.utils.precision import true_float32
from gpu_parts.graphs import Graphed
from gpu_parts.scenes import atat, make_faces, make_loop, make_target, step_of
from gpu_parts.session import Bench
from gpu_parts.sizes import Network
from gpu_parts.timing import count_operations, float32_peak, peak_mib, seconds

PGD = {"epsilon": 0.005, "steps": 5, "step_size": 0.001, "random_start": True}
DEFENSES: dict[str, Callable[[], Defense]] = {
    "plain": NoDefense,
    "placebo": lambda: DecoyNoise(weight=0.08, epsilon=0.00025),
    "AT-AT, K = 5": atat,
    "AT-AT, K = 5, inner steps in a graph": lambda: Graphed(atat()),
    "AT-AT, K = 1": lambda: atat(steps=1, step_size=0.00025),
    "AT-AT, K = 1, inner step in a graph": lambda: Graphed(atat(steps=1, step_size=0.00025)),
    "adversarial, K = 5": lambda: Adversarial(**PGD),
}
CONTIGUOUS = ("plain", "AT-AT, K = 5")  # measured in the other layout too


def step_label(network: Network, defense: str, layout: str = "channels last") -> str:
    """Return the name of a timed step."""
    return f"{network}: {defense}, {layout}"


def evaluation_label(network: Network, precision: str) -> str:
    """Return the name of a timed step of the evaluation model."""
    return f"evaluation model {network}: plain, {precision}"


class Contiguous(nn.Module):
    """A network in contiguous layout, whatever the layout of its images."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, classes)."""
        return self.body(images.contiguous())


def training_speed_part(bench: Bench) -> None:
    """Time training steps of the large networks."""
    peak = 0.0
    with true_float32():
        found = bench.measure("float32 peak", lambda: measured_peak(bench))
    if found:
        peak = found["tera-operations a second"] * 1e12
    for network in bench.sizes.trained:
        for name, defense in DEFENSES.items():
            bench.measure(
                step_label(network, name),
                lambda n=network, d=defense: step_time(bench, n, d(), peak),
            )
        for name in CONTIGUOUS:
            bench.measure(
                step_label(network, name, "contiguous"),
                lambda n=network, d=DEFENSES[name]: step_time(bench, n, d(), peak, Contiguous),
            )
    network = bench.sizes.evaluation
    for precision in ("bfloat16", "float32"):
        bench.measure(
            evaluation_label(network, precision),
            lambda p=precision: step_time(bench, network, NoDefense(), peak, precision=p),
        )
    bench.measure("from the image store to the device", lambda: store_speed(bench))


def measured_peak(bench: Bench) -> dict[str, Any]:
    """Measure the float32 operations a second of a large product."""
    rate = float32_peak(bench.device, bench.sizes.matrix, steps=bench.sizes.steps)
    return {"tera-operations a second": rate / 1e12}


def step_time(
    bench: Bench,
    network: Network,
    defense: Defense,
    peak: float,
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
    precision: str = "float32",
) -> dict[str, Any]:
    """Time a training step, with its peak memory and share of the float32 peak."""
    faces = make_faces(network, bench.device, classes=bench.sizes.classes)
    model = wrap(make_target(network, bench.device, classes=bench.sizes.classes))
    step = step_of(make_loop(model, faces, defense, precision=precision))
    with true_float32():
        time = seconds(step, bench.device, steps=bench.sizes.steps)
        memory = peak_mib(step, bench.device)
        # A replayed graph runs no operation that could be counted.
        operations = None if isinstance(defense, Graphed) else count_operations(step)
    share = operations / time / peak if operations and peak else None
    return {
        "ms a step": 1e3 * time,
        "images a second": network.batch / time,
        "peak MiB": memory,
        "giga-operations a step": operations and operations / 1e9,
        "share of the float32 peak": share,
    }


def store_speed(bench: Bench) -> dict[str, Any]:
    """Time the reading of a batch of stored images."""
    network, count = bench.sizes.trained[0], bench.sizes.store
    pixels = torch.zeros(count, 3, network.side, network.side, dtype=torch.uint8)
    faces = Faces(
        images=StoredImages(pixels).to(bench.device),
        labels=torch.zeros(count, dtype=torch.long, device=bench.device),
    )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    time = seconds(
        lambda: faces.batch(order[: network.batch]), bench.device, steps=bench.sizes.steps
    )
    return {"ms a batch": 1e3 * time, "images a second": network.batch / time}
