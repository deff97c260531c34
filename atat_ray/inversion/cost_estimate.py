"""Estimate time and memory of an inversion attack from a few timed steps of the real networks."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from atat_ray.inversion.interface import Attack, Scope
from atat_ray.inversion.optimization import adam, take_step
from atat_ray.priors import Prior
from atat_ray.utils.seeding import generator

PROBE_CANDIDATES = 8
TIMED_CALLS = 3  # after one call that is not timed


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Expected cost of an attack on all classes, on the device of the target model.

    Attributes:
        seconds: time on one device, the parts run by other workers included. PPDG's steps on the
            prior alone count as steps through the target model; projections are not counted.
        megabytes: memory for the backward pass of a batch, beside the networks.
    """

    seconds: float
    megabytes: float

    @property
    def device_hours(self) -> float:
        """Return the time in hours of one device."""
        return self.seconds / 3600

    def __str__(self) -> str:
        """Format the estimate in one line."""
        return (
            f"about {self.seconds:.0f} s ({self.device_hours:.2g} hours of one device) and "
            f"{self.megabytes:.0f} MB beside the networks"
        )


def fastest_seconds(device: torch.device, function: Callable[[], Any]) -> float:
    """Return the shortest time in seconds of TIMED_CALLS calls, after one warm-up call."""
    seconds = []
    for _ in range(TIMED_CALLS + 1):
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def saved_bytes(function: Callable[[], Any]) -> int:
    """Count the bytes that autograd saves for the backward pass of a call, each storage once."""
    sizes: dict[int, int] = {}

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        function()
    return sum(sizes.values())


def estimate(
    target: nn.Module,
    prior: Prior,
    num_classes: int,
    attack: Attack,
    *,
    num_probed: int = PROBE_CANDIDATES,
) -> Estimate:
    """Time steps of an attack on a few candidates and scale them up.

    Args:
        target: images to (N, C) logits; put into evaluation mode.
        prior: prior to search; the probe optimises its latents.
        num_classes: C.
        attack: attack whose time and memory are estimated.
        num_probed: candidates that are timed together.
    """
    target.eval()
    device = next(target.parameters()).device
    count = min(num_probed, attack.candidates)
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

    def score_view() -> None:
        with torch.no_grad():
            target(images)

    def score_sample() -> None:
        with torch.no_grad():
            target(prior.synthesize(state[0]))

    size = saved_bytes(step) / count
    seconds = (
        fastest_seconds(device, step) * num_classes * attack.steps_per_class()
        + fastest_seconds(device, score_view) * num_classes * attack.views_per_class()
        # A sample and its mirror image are scored.
        + fastest_seconds(device, score_sample) * attack.num_scored_samples(num_classes) * 2
    ) / count
    largest_part = len(attack.parts(num_classes)[0]) * attack.candidates
    in_memory = min(attack.batch or largest_part, largest_part)
    return Estimate(seconds=seconds, megabytes=size * in_memory / 2**20)
