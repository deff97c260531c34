"""Right? Every tensor of a step on the device, no waits, and memory that is given back."""

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from atat_ray.data import Faces
from atat_ray.data.stored_images import StoredImages, to_bytes
from atat_ray.defenses.registry import DEFENSES
from atat_ray.inversion.optimization import adam, take_step
from atat_ray.inversion.ppa import Ppa
from atat_ray.inversion.selection import robust_confidence
from atat_ray.priors import Prior
from atat_ray.utils.seeding import BatchDraws, generator
from gpu_parts.agreement import CLASSES, OPTIONS, SMALL
from gpu_parts.scenes import make_faces, make_loop, make_prior, make_target, make_warped, step_of
from gpu_parts.session import Bench
from gpu_parts.transfers import transfers

Work = Callable[[], Any]
RUNTIME = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaMemcpyAsync", "cudaLaunchKernel")


def placement_part(bench: Bench) -> None:
    """Count waits and copies of each step, and what stays in memory after it.

    Without a GPU the steps run on PyTorch's meta device, whose tensors have shapes and no values:
    an operation that needs a value on the CPU, or mixes devices, fails there too.
    """
    device = bench.device if bench.on_gpu else torch.device("meta")
    for name, begin in steps(bench, device).items():
        bench.measure(name, lambda begin=begin: counted(begin, device))
    if bench.on_gpu:
        for name, begin in steps(bench, device).items():
            bench.measure(f"runtime calls: {name}", lambda begin=begin: profiled(begin, device))
            bench.measure(f"memory: {name}", lambda begin=begin: given_back(begin, device))
    else:
        bench.write("memory that is given back", "left out", "there is no GPU")


def steps(bench: Bench, device: torch.device) -> dict[str, Callable[[], Work]]:
    """List what is run: for each name, a function that prepares the step and returns it."""
    side = max(bench.sizes.generators)
    return {
        **{f"training step of {n}": lambda n=n: training_step(n, device) for n in DEFENSES},
        "training step on stored images": lambda: training_step("none", device, stored=True),
        "step of PPA, warped prior": lambda: ppa_step(make_warped(device, size=SMALL.side), device),
        f"step of PPA, StyleGAN2 of {side} pixels": lambda: ppa_step(
            make_prior(bench.sizes.generators[side], device, size=32, crop=bench.sizes.crop),
            device,
        ),
        "final selection": lambda: selection(device),
    }


def training_step(name: str, device: torch.device, *, stored: bool = False) -> Work:
    """Prepare a training step under a defense."""
    faces = make_faces(SMALL, device, classes=CLASSES)
    if stored:
        pixels = to_bytes(make_faces(SMALL, torch.device("cpu"), classes=CLASSES).images[:])
        faces = Faces(images=StoredImages(pixels).to(device), labels=faces.labels)
    model = make_target(SMALL, device, classes=CLASSES)
    defense = DEFENSES[name](**OPTIONS[name])
    model = defense.prepare(model, public=faces, seed=0).to(device)
    return step_of(make_loop(model, faces, defense, steps=3))


def ppa_step(prior: Prior, device: torch.device) -> Work:
    """Prepare a step of PPA."""
    ppa = Ppa.from_preset("quick", candidates=4)
    target = make_target(
        SMALL if prior.name == "warped" else colour(), device, classes=CLASSES
    ).eval()
    state = (prior.sample_latents(4, generator("latents")),)
    optimizer, draws = adam(state, [ppa.learning_rate], ppa), BatchDraws(generator("crops"))
    classes = torch.arange(4, device=device)
    return lambda: take_step(
        target, lambda state: prior.synthesize(state[0]), state, classes, ppa, draws, optimizer
    )


def colour() -> Any:
    """Return the small network for colour images."""
    return type(SMALL)(architecture=SMALL.architecture, side=SMALL.side, batch=SMALL.batch)


def selection(device: torch.device) -> Work:
    """Prepare the scoring of reconstructions on random views."""
    faces = make_faces(SMALL, device, classes=CLASSES)
    target = make_target(SMALL, device, classes=CLASSES).eval()
    draws = BatchDraws(generator("views"))
    return lambda: robust_confidence(
        target, faces.images[:], faces.labels, draws, views=2, area=(0.5, 0.9), ratio=(0.8, 1.2)
    )


def counted(begin: Callable[[], Work], device: torch.device) -> dict[str, Any]:
    """Count the waits and copies of the second step, on the meta device of the first."""
    step = begin()
    if device.type != "meta":
        step()
    with transfers(device) as counts:
        step()
    bad = {name: n for name, n in counts.items() if name != "to device"}
    return {
        "verdict": "differs" if bad else "agrees",
        "copies to the device": counts["to device"],
        "note": ", ".join(f"{name}: {n}" for name, n in bad.items()),
    }


def profiled(begin: Callable[[], Work], device: torch.device) -> dict[str, Any]:
    """Count the calls of the CUDA runtime in the second step."""
    step = begin()
    step()
    torch.cuda.synchronize(device)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        step()
    counts = {event.key: event.count for event in found.key_averages()}
    return {name: counts.get(name, 0) for name in RUNTIME}


def given_back(begin: Callable[[], Work], device: torch.device) -> dict[str, Any]:
    """Compare the allocated memory before and after a step whose objects are dropped."""
    begin()()  # workspaces of cuBLAS and cuDNN stay
    gc.collect()
    before = torch.cuda.memory_allocated(device)
    begin()()
    gc.collect()
    left = torch.cuda.memory_allocated(device) - before
    return {"verdict": "agrees" if left <= 0 else "differs", "bytes left": left}
