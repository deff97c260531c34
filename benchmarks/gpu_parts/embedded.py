"""Fast? One unit of the embedded trial, and how many units at once pay off on one GPU."""

import multiprocessing
import time
from typing import Any

import torch

from atat_ray.data.augmentation import Augmentation
from atat_ray.inversion import invert
from atat_ray.inversion.ppa import Ppa
from atat_ray.training import Training
from atat_ray.training.loop import Loop, train
from atat_ray.utils.precision import true_float32
from gpu_parts.agreement import OPTIONS
from gpu_parts.scenes import atat, make_faces, make_target, make_warped
from gpu_parts.session import Bench, LeftOut
from gpu_parts.sizes import SMALL
from gpu_parts.timing import wait

EACH = 7  # images of a person
READY = 120.0  # seconds in which all processes must be ready
DEFENSE = {**OPTIONS["anti_adversarial"], "random_start": True}


def embedded_part(bench: Bench) -> None:
    """Time the stages of an embedded unit on made faces, then several trainings at once."""
    bench.measure("training of one unit", lambda: training_time(bench))
    bench.measure("inversion of one unit", lambda: inversion_time(bench))
    for count in bench.sizes.processes:
        bench.measure(
            f"{count} trainings at once, in processes", lambda c=count: in_processes(bench, c)
        )
    for count in bench.sizes.processes:
        bench.measure(
            f"{count} trainings at once, in streams", lambda c=count: in_streams(bench, c)
        )


def training(epochs: int) -> Training:
    """Return the schedule of orl-rct."""
    return Training(
        epochs=epochs, batch_size=SMALL.batch, learning_rate=0.0015, weight_decay=0.02,
        augmentation=Augmentation(),
    )  # fmt: skip


def new_loop(device: torch.device, people: int) -> Loop:
    """Begin the training of an embedded unit, with more epochs than are run."""
    faces = make_faces(SMALL, device, classes=people, count=people * EACH)
    model = make_target(SMALL, device, classes=people).train()
    return Loop(model, faces, atat(**DEFENSE), training(10_000), seed=0)


def training_time(bench: Bench) -> dict[str, Any]:
    """Time the training of a unit under AT-AT."""
    people = bench.sizes.people
    faces = make_faces(SMALL, bench.device, classes=people, count=people * EACH)
    model = make_target(SMALL, bench.device, classes=people)
    start = time.perf_counter()
    train(model, faces, atat(**DEFENSE), training(bench.sizes.epochs), seed=0)
    wait(bench.device)
    return {"seconds": time.perf_counter() - start, "epochs": bench.sizes.epochs}


def inversion_time(bench: Bench) -> dict[str, Any]:
    """Time the inversion of a unit: PPA with its quick preset on the warped prior."""
    classes, ppa = bench.sizes.people, Ppa.from_preset("quick")
    target = make_target(SMALL, bench.device, classes=classes).eval()
    prior = make_warped(bench.device, size=SMALL.side)
    start = time.perf_counter()
    invert(target, prior, classes, ppa, seed=0)
    wait(bench.device)
    spent = time.perf_counter() - start
    return {"seconds": spent, "candidate-steps a second": classes * ppa.steps_per_class() / spent}


def count_steps(loops: list[Loop], device: torch.device, streams: list[Any], timed: float) -> float:
    """Count steps a second of trainings that take turns in their streams for ``timed`` seconds."""
    rows = torch.arange(SMALL.batch)

    def turn() -> None:
        for loop, stream in zip(loops, streams, strict=True):
            with torch.cuda.stream(stream):  # does nothing for None
                loop.step(rows)

    with true_float32():
        turn()
        wait(device)
        start, turns = time.perf_counter(), 0
        while time.perf_counter() - start < timed:
            turn()
            turns += 1
        wait(device)
    return turns * len(loops) / (time.perf_counter() - start)


def in_streams(bench: Bench, count: int) -> dict[str, Any]:
    """Count steps of several trainings in one process, each in its own CUDA stream."""
    if not bench.on_gpu:
        raise LeftOut("CUDA streams need a GPU")
    streams = [torch.cuda.Stream() for _ in range(count)]
    loops = [new_loop(bench.device, bench.sizes.people) for _ in range(count)]
    wait(bench.device)
    return {"steps a second": count_steps(loops, bench.device, streams, bench.sizes.timed)}


def one_process(device: str, people: int, timed: float, gate: Any, results: Any) -> None:
    """Count the steps of one training, beginning when all processes are ready."""
    torch.set_num_threads(1)
    place = torch.device(device)
    loops = [new_loop(place, people)]
    gate.wait(READY)
    results.put(count_steps(loops, place, [None], timed))


def in_processes(bench: Bench, count: int) -> dict[str, Any]:
    """Count steps of several trainings, each in its own process."""
    context: Any = multiprocessing.get_context("spawn" if bench.on_gpu else "fork")
    gate, results = context.Barrier(count), context.Queue()
    arguments = (str(bench.device), bench.sizes.people, bench.sizes.timed, gate, results)
    workers = [context.Process(target=one_process, args=arguments) for _ in range(count)]
    for worker in workers:
        worker.start()
    try:
        rates = [results.get(timeout=max(bench.left(), 1)) for _ in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    return {"steps a second": sum(rates), "of one": sum(rates) / count}
