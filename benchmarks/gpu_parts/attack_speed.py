"""Fast? Candidate-steps of PPA by batch, its selections, and steps of APGD."""

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import torch

from atat_ray.inversion.optimization import adam, take_step
from atat_ray.inversion.ppa import Ppa
from atat_ray.inversion.selection import robust_confidence
from atat_ray.priors import StagedPrior
from atat_ray.robustness.attack_sets import ATTACK_SETS
from atat_ray.robustness.autoattack import run_attack
from atat_ray.utils.precision import true_float32
from atat_ray.utils.seeding import BatchDraws, generator
from gpu_parts.graphs import graphed_ppa_step
from gpu_parts.scenes import make_faces, make_prior, make_target
from gpu_parts.session import Bench, LeftOut
from gpu_parts.timing import peak_mib, seconds

CHUNK = 8  # images of the generator in memory at once, as in facescrub-rct
ITERATIONS = 10
SAMPLES, VIEWS, APGD = "scoring of samples", "scoring of views", "APGD"


def attack_speed_part(bench: Bench) -> None:
    """Time the stages of an attack at the paper's scale."""
    for batch in bench.sizes.batches:
        for graph in (False, True):
            bench.measure(
                ppa_label(batch, graph),
                lambda b=batch, g=graph: ppa_speed(bench, b, chunk=b, graph=g),
            )
    count = bench.sizes.candidates
    bench.measure(
        f"PPA, {count} candidates at once, the generator in batches of {CHUNK}",
        lambda: ppa_speed(bench, count, chunk=CHUNK, graph=False),
    )
    bench.measure(SAMPLES, lambda: sample_speed(bench))
    bench.measure(VIEWS, lambda: view_speed(bench))
    bench.measure(APGD, lambda: apgd_speed(bench))


def ppa_label(batch: int, graph: bool) -> str:
    """Return the name of a timed step of PPA."""
    return f"PPA, {batch} candidates at once{', in a graph' if graph else ''}"


def prior_of(bench: Bench, chunk: int) -> StagedPrior:
    """Build the largest generator, framed for the attacked network."""
    side = max(bench.sizes.generators)
    return make_prior(
        bench.sizes.generators[side], bench.device, size=bench.sizes.attacked.side,
        crop=bench.sizes.crop, batch=chunk,
    )  # fmt: skip


def ppa_speed(bench: Bench, batch: int, *, chunk: int, graph: bool) -> dict[str, Any]:
    """Time steps of PPA on w, as facescrub-rct takes them."""
    if graph and not bench.on_gpu:
        raise LeftOut("CUDA graphs need a GPU")
    ppa = Ppa.from_preset("paper", milestones=())
    target = make_target(bench.sizes.attacked, bench.device, classes=bench.sizes.classes)
    target.eval().requires_grad_(False)
    prior = prior_of(bench, chunk)
    with torch.no_grad():
        state = prior.begin(prior.sample_latents(batch, generator("latents")))
    classes = torch.zeros(batch, dtype=torch.long, device=bench.device)
    draws = BatchDraws(generator("crops"))
    synthesize = lambda state: prior.finish(state, 0)  # noqa: E731
    if graph:
        step = graphed_ppa_step(target, synthesize, state, classes, ppa, draws)
    else:
        optimizer = adam(state, [ppa.learning_rate], ppa)
        step = lambda: take_step(  # noqa: E731
            target, synthesize, state, classes, ppa, draws, optimizer
        )
    time = seconds(step, bench.device, steps=bench.sizes.steps)
    return {
        "ms a step": 1e3 * time,
        "candidate-steps a second": batch / time,
        "peak MiB": peak_mib(step, bench.device),
    }


def sample_speed(bench: Bench) -> dict[str, Any]:
    """Time the scoring of samples, from which the candidates are chosen."""
    prior, batch = prior_of(bench, CHUNK), max(bench.sizes.batches)
    target = make_target(bench.sizes.attacked, bench.device, classes=bench.sizes.classes).eval()
    latents = prior.sample_latents(batch, generator("latents"))

    def score() -> None:
        with torch.no_grad():
            images = prior.synthesize(latents)
            target(images)
            target(images.flip(3))

    time = seconds(score, bench.device, steps=bench.sizes.steps)
    return {"ms a batch": 1e3 * time, "images a second": batch / time}


def view_speed(bench: Bench) -> dict[str, Any]:
    """Time the scoring of candidates on random views, from which the best are kept."""
    network = bench.sizes.attacked
    faces = make_faces(network, bench.device, classes=bench.sizes.classes)
    target = make_target(network, bench.device, classes=bench.sizes.classes).eval()
    draws = BatchDraws(generator("views"))
    time = seconds(
        lambda: robust_confidence(
            target, faces.images[:], faces.labels, draws, views=1, area=(0.5, 0.9), ratio=(0.8, 1.2)
        ),
        bench.device,
        steps=bench.sizes.steps,
    )
    return {"ms a batch": 1e3 * time, "images a second": network.batch / time}


def apgd_speed(bench: Bench) -> dict[str, Any]:
    """Time steps of APGD on images that the network classifies as labelled."""
    if find_spec("pyautoattack") is None:
        raise LeftOut("pyautoattack is not installed")
    network = bench.sizes.attacked
    faces = make_faces(network, bench.device, classes=bench.sizes.classes)
    target = make_target(network, bench.device, classes=bench.sizes.classes).eval()
    settings = replace(ATTACK_SETS["apgd-ce"], iterations=ITERATIONS)
    with torch.no_grad():
        labels = target(faces.images[:]).argmax(1)

    def attack() -> None:
        with true_float32():
            run_attack(
                target, faces.images[:], labels, "apgd-ce", epsilon=1e-5, settings=settings,
                num_classes=bench.sizes.classes, seed=0, eot=1,
            )  # fmt: skip

    time = seconds(attack, bench.device, steps=1)
    return {"image-steps a second": ITERATIONS * network.batch / time}
