"""So what? The settings that a GPU wants, and the device-hours of facescrub-rct on it."""

from dataclasses import dataclass
from math import ceil
from typing import Any

from gpu_parts.attack_speed import APGD, SAMPLES, VIEWS, ppa_label
from gpu_parts.session import Row
from gpu_parts.sizes import Network, Sizes
from gpu_parts.training_speed import evaluation_label, step_label

PART = "advice"
ATAT, GRAPHED = "AT-AT, K = 5", "AT-AT, K = 5, inner steps in a graph"
PAPER_HOURS = 56  # of one A100: PPA's author reports 14 with 50 candidates of 500 people; 200 here
CLEAR = 1.05  # ratio from which a setting is called faster
AHEAD = 1.03  # a larger batch must be faster by this ratio


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """What facescrub-rct computes; a test compares it with the protocol.

    Attributes:
        people: private people.
        images: of the dataset, as published.
        train_share: share of the images that train.
        epochs: of the target models.
        evaluation_epochs: of the evaluation model.
        units: by arm, in all blocks.
        blocks: each has one evaluation model.
        samples: latents from which the candidates of a unit are chosen.
        candidates: of a person.
        steps: of PPA.
        views: on which a candidate is scored.
        radii: epsilons of the robust accuracy.
        apgd_steps: of the attack at each radius.
    """

    people: int = 530
    images: int = 37_878
    train_share: float = 0.9
    epochs: int = 50
    evaluation_epochs: int = 50
    units: int = 6
    blocks: int = 2
    samples: int = 2000
    candidates: int = 200
    steps: int = 50
    views: int = 100
    radii: int = 4
    apgd_steps: int = 100


def advise(rows: list[Row], sizes: Sizes) -> list[Row]:
    """Return the rows of the advice; what was not measured is named there."""
    found = {row.what: row.numbers for row in rows if row.verdict == "measured"}
    return [*settings(found, sizes), *hours(found, sizes, Workload())]


def rate(found: dict[str, dict[str, Any]], what: str, unit: str = "images a second") -> Any:
    """Return a measured rate, None if it was not measured."""
    return found.get(what, {}).get(unit)


def best_batch(found: dict[str, dict[str, Any]], sizes: Sizes) -> tuple[int, bool, float] | None:
    """Return batch, graph or not, and candidate-steps a second of the fastest search."""
    best = None
    for graph in (False, True):
        for batch in sizes.batches:
            speed = rate(found, ppa_label(batch, graph), "candidate-steps a second")
            if speed and (best is None or speed > AHEAD * best[2]):
                best = batch, graph, speed
    return best


def settings(found: dict[str, dict[str, Any]], sizes: Sizes) -> list[Row]:
    """Return the settings that the rates favour."""
    rows, best = [], best_batch(found, sizes)
    if best:
        batch, graph, speed = best
        note = f"write batch: {batch} under ppa and batch: {batch} under its prior"
        numbers = {"batch": batch, "candidate-steps a second": speed}
        rows.append(row("batch of PPA", note + (", in a CUDA graph" if graph else ""), numbers))
    for network in sizes.trained:
        eager = step_label(network, ATAT)
        others = {
            "channels last over contiguous": (eager, step_label(network, ATAT, "contiguous")),
            "compiled over eager": (step_label(network, ATAT, "compiled"), eager),
            "inner steps in a graph over eager": (step_label(network, GRAPHED), eager),
        }
        for what, labels in others.items():
            one, other = (rate(found, label) for label in labels)
            if one and other:
                note = "yes" if one / other >= CLEAR else "no"
                rows.append(row(f"{what}: {network}", note, {"ratio": one / other}))
        rows += share(found, network)
    return rows


def share(found: dict[str, dict[str, Any]], network: Network) -> list[Row]:
    """Return the gpu_share of a network, from the largest memory of its steps."""
    total = found.get("GPU", {}).get("MiB")
    peaks = [
        numbers["peak MiB"]
        for what, numbers in found.items()
        if numbers.get("peak MiB") and what.startswith(f"{network}: ")
    ]
    if not total or not peaks:
        return []
    part = min(1.0, ceil(20 * max(peaks) / total) / 20)
    note = "of training; an attack that needs more memory decides"
    numbers = {"gpu_share": part, "peak MiB": max(peaks)}
    return [row(f"gpu_share of {network.architecture}", note, numbers)]


def hours(found: dict[str, dict[str, Any]], sizes: Sizes, load: Workload) -> list[Row]:
    """Return the device-hours of facescrub-rct by stage, at the measured rates."""
    network, best = sizes.trained[-1], best_batch(found, sizes)
    train = load.images * load.train_share * load.epochs
    evaluate = load.images * load.train_share * load.evaluation_epochs
    attacked = load.people * load.candidates
    tests = load.images * (1 - load.train_share) * load.radii * load.apgd_steps
    arms = {"control": "plain", "treatment": ATAT, "placebo": "placebo"}
    apgd = rate(found, APGD, "image-steps a second")
    evaluation = rate(found, evaluation_label(sizes.evaluation, "bfloat16"))
    stages = {
        **{
            f"training, {arm}": (train, rate(found, step_label(network, name)), load.units)
            for arm, name in arms.items()
        },
        "PPA, search": (attacked * load.steps, best and best[2], load.units * len(arms)),
        "PPA, samples": (load.samples, rate(found, SAMPLES), load.units * len(arms)),
        "PPA, views": (attacked * load.views, rate(found, VIEWS), load.units * len(arms)),
        "robust accuracy": (tests, apgd, load.units * len(arms)),
        "evaluation model": (evaluate, evaluation, load.blocks),
    }
    rows, total, unknown = [], 0.0, []
    for stage, (work, speed, count) in stages.items():
        if not speed:
            unknown.append(stage)
            continue
        each = work / speed / 3600
        total += each * count
        note = f"the paper's attack takes about {PAPER_HOURS} hours of an A100"
        numbers = {"hours of one": each, "of them": count, "hours in all": each * count}
        rows.append(row(f"facescrub-rct: {stage}", note if stage == "PPA, search" else "", numbers))
    note = f"without {', '.join(unknown)}, not measured" if unknown else ""
    return [*rows, row("facescrub-rct: in all", note, {"hours in all": total})]


def row(what: str, note: str, numbers: dict[str, Any]) -> Row:
    """Return a row of the advice."""
    return Row(part=PART, what=what, verdict="measured", numbers=numbers, note=note)
