"""What an inversion attack will take, from a few timed steps of the actual networks."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from atat_ray.inversion.interface import Scope
from atat_ray.inversion.optimization import adam, take_step
from atat_ray.inversion.registry import Attack
from atat_ray.priors import Prior
from atat_ray.utils.seeding import generator

PROBED = 8  # candidates
STEPS = 3  # that are timed, after one that is not


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What an attack on all classes is expected to take on the device of the target model.

    Attributes:
        seconds: of one device; parts that others do are part of it. Steps of PPDG on the prior
            alone count as if they went through the target model; projections are left out.
        megabytes: that the backward pass of a batch needs, beside the networks.
    """

    seconds: float
    megabytes: float

    @property
    def device_hours(self) -> float:
        """Give the time in hours of one device."""
        return self.seconds / 3600

    def __str__(self) -> str:
        """Say it in a line."""
        return (
            f"about {self.seconds:.0f} s, that is {self.device_hours:.2g} hours of one device, and "
            f"{self.megabytes:.0f} MB beside the networks"
        )


def timed(device: torch.device, work: Any) -> float:
    """Give the least seconds of STEPS calls of ``work``, after one that is not counted."""
    seconds = []
    for _ in range(STEPS + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def saved_bytes(work: Any) -> int:
    """Count the bytes that autograd keeps for the backward pass of ``work``, each storage once."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        work()
    return sum(kept.values())


def estimate(
    target: nn.Module, prior: Prior, num_classes: int, attack: Attack, *, probed: int = PROBED
) -> Estimate:
    """Probe an attack on a few candidates and scale it up.

    Args:
        target: images to (N, C) logits; it is put into evaluation mode.
        prior: to search, by its latents.
        num_classes: C.
        attack: whose time and memory are asked for.
        probed: candidates that are timed together.
    """
    target.eval()
    device = next(target.parameters()).device
    count = min(probed, attack.candidates)
    scope = Scope(num_classes=1, part=[0], seed=0, device=device)
    state = (prior.sample_latents(count, generator("probe")).to(device),)
    classes, draws = scope.labels(count), scope.draws("probe", count)
    optimizer = adam(state, [attack.learning_rate], attack)

    def step() -> None:
        take_step(
            target, lambda state: prior.synthesize(state[0]), state, classes, attack, draws,
            optimizer,
        )  # fmt: skip

    with torch.no_grad():
        images = prior.synthesize(state[0])

    def look() -> None:
        with torch.no_grad():
            target(images)

    def draw() -> None:
        with torch.no_grad():
            target(prior.synthesize(state[0]))

    size = saved_bytes(step) / count
    seconds = (
        timed(device, step) * num_classes * attack.steps_of_a_class()
        + timed(device, look) * num_classes * attack.views_of_a_class()
        + timed(device, draw) * attack.samples_of_all(num_classes) * 2
    ) / count
    most = len(attack.parts(num_classes)[0]) * attack.candidates
    return Estimate(seconds=seconds, megabytes=size * min(attack.batch or most, most) / 2**20)
