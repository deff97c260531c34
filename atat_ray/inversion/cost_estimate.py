"""Estimate time and memory of an inversion attack from a few timed steps of the real networks."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from atat_ray.inversion.interface import Attack, Scope
from atat_ray.inversion.losses import LOSSES
from atat_ray.inversion.optimization import adam, take_step
from atat_ray.inversion.random_crops import random_resized_crop
from atat_ray.inversion.smoothing import Smoothed, logits_of
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
        megabytes: memory for the backward pass of a batch and for what an attack holds until a part
            ends, beside the networks.
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


def saved_bytes(function: Callable[[], Any], *networks: nn.Module) -> int:
    """Count the bytes that autograd saves for the backward pass of a call, each storage once.

    Tensors of the networks are not counted. Networks on the device "meta" have sizes and no
    content, so that a large attack can be measured without its memory.
    """
    sizes: dict[StorageWeakRef, int] = {}
    tensors = chain.from_iterable([*net.parameters(), *net.buffers()] for net in networks)
    beside = {StorageWeakRef(tensor.untyped_storage()) for tensor in tensors}

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[StorageWeakRef(storage)] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        function()
    return sum(size for storage, size in sizes.items() if storage not in beside)


def estimate_bytes(target: nn.Module, prior: Prior, num_classes: int, attack: Attack) -> int:
    """Estimate the memory of an attack beside the networks, from the steps of one candidate.

    It is what the backward pass of a batch needs, and what the attack holds until a part ends. A
    prior that computes its images a few rows at a time holds the intermediate results of these rows
    only. PPDG's tuning is not counted: with few pseudo-private images it needs less than a batch.

    Args:
        target: images to (N, C) logits, in evaluation mode.
        prior: prior to search, on the device of the target model.
        num_classes: C.
        attack: attack whose memory is estimated.
    """
    latents = prior.sample_latents(1, generator("probe"))
    scope = Scope(num_classes=1, part=[0], seed=0, device=latents.device)
    with torch.no_grad():
        images = prior.render(latents)

    part = len(attack.parts(num_classes)[0])
    batch = min(attack.batch or part * attack.candidates, part * attack.candidates)
    seen = target.in_memory(batch) if isinstance(target, Smoothed) else target

    def see() -> None:
        draws = scope.draws("probe", 1)
        views = attack.searched(images.requires_grad_())
        views = random_resized_crop(views, draws, area=attack.crop_area)
        LOSSES[attack.loss](logits_of(seen, views, draws), scope.labels(1)).sum()

    rows = min(prior.rows_at_once or batch, batch)
    held = attack.held_bytes(prior, part, images.numel() * images.element_size())
    rendering = saved_bytes(lambda: prior.render(latents.requires_grad_()), prior)
    return batch * saved_bytes(see, target) + rows * rendering + held


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
            target, lambda state: prior.render(state[0]), state, classes, attack, draws, optimizer
        )

    with torch.no_grad():
        images = prior.synthesize(state[0])

    def score_view() -> None:
        with torch.no_grad():
            logits_of(target, images, draws)

    def score_sample() -> None:
        with torch.no_grad():
            logits_of(target, prior.synthesize(state[0]), draws)

    attacked = len(attack.attacked(num_classes))
    seconds = (
        fastest_seconds(device, step) * attacked * attack.steps_per_class()
        + fastest_seconds(device, score_view) * attacked * attack.views_per_class()
        # A sample and its mirror image are scored.
        + fastest_seconds(device, score_sample) * attack.num_scored_samples(attacked) * 2
    ) / count
    size = estimate_bytes(target, prior, num_classes, attack)
    return Estimate(seconds=seconds, megabytes=size / 2**20)
