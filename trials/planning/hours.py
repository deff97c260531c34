"""Estimate the hours that the units of a protocol take, from one step of each kind of unit."""

from collections.abc import Iterator

from atat_ray.data import DATASETS, Data, folder_is_missing, load_split
from atat_ray.robustness import ATTACK_SETS, Robustness
from atat_ray.unit import UnitSpec
from atat_ray.unit.measured_speed import Rates, measure_rates
from atat_ray.unit.rehearsal import shrink
from atat_ray.utils.device import pick_device
from trials.config.settings import Settings
from trials.planning.rehearsal import temporary_folder, unit_kinds


def count_images(data: Data, split: int) -> tuple[int, int]:
    """Count training and test images in the files or, if these are missing, as published.

    Raises:
        ValueError: the files are missing and the dataset has no published count.
    """
    if folder_is_missing(data):
        published = DATASETS[data.name].num_published
        if published is None or data.train_share is None:
            raise ValueError(
                f"the images of {data.name} cannot be counted, because there is no folder "
                f"{data.root}; correct data.root, or use --like instead of --probe"
            )
        train = round(published * data.train_share)
        return train, published - train
    loaded = load_split(data, split)
    return len(loaded.train), len(loaded.test)


def attack_seconds(robustness: Robustness, rates: Rates) -> float:
    """Estimate the seconds that the attacks of robust accuracy take on a robust image.

    An attack on a robust image runs through its whole budget.
    """
    settings = ATTACK_SETS[robustness.attacks]
    step = rates.gradient * settings.iterations * robustness.eot
    costs = {
        "apgd-ce": step,
        "apgd-dlr": step,
        "apgd-t": step * settings.target_classes,
        "fab-t": 2 * step * settings.target_classes,  # one step needs the gradient of two logits
        "square": settings.queries * rates.forward,
    }
    return sum(costs[attack] for attack in settings.attacks) * len(robustness.epsilons)


def unit_seconds(spec: UnitSpec, rates: Rates) -> float:
    """Scale the seconds per image to a unit; exclude scoring and reading files."""
    train, test = count_images(spec.block.data, spec.block.split)
    seconds = spec.training.epochs * train * rates.train
    seconds += test * attack_seconds(spec.robustness, rates)
    seconds += sum(rates.inversions.values())
    return seconds


def describe_probe(settings: Settings) -> Iterator[str]:
    """Measure each kind of unit; generate lines on progress, hours and assumptions.

    Args:
        settings: of a protocol or sweep.
    """
    kinds, lines, total, count = unit_kinds(settings), [], 0.0, 0
    notes: list[str] = []
    with temporary_folder("probe") as folder:
        for number, kind in enumerate(kinds, 1):
            yield f"[{number}/{len(kinds)}] measuring {kind.name}"
            small, differences = shrink(kind.spec, folder, narrow=False)
            notes += [note for note in differences if note not in notes]
            rates = measure_rates(kind.spec, small, folder / "assets")
            hours = unit_seconds(kind.spec, rates) / 3600
            units = round(kind.units)
            lines.append(f"  {kind.name}: {hours:.2g} hours a unit, {units} units")
            total, count = total + units * hours, count + units
    device = "GPU" if pick_device().type == "cuda" else "CPU"
    yield (
        f"hours: {total:.2g} {device} hours for {count} units, if one unit at a time runs on this "
        "device (measured seconds per image and step, times images and steps of the protocol)"
    )
    yield from lines
    yield "  not counted: evaluation models and priors, scoring, bounds, reading files"
    yield from (f"  measured with: {note}" for note in notes)
