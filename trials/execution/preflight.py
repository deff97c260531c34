"""Check what a run needs before it starts: data, weights, files of priors, prepared networks."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import torch

from atat_ray.data import Data, IdentitySplit, load_split
from atat_ray.models.backbones import find_weights
from atat_ray.training.interface import Defense
from atat_ray.unit.train_stage import new_target
from trials.config.settings import SampleUnit, Settings


def check_data(settings: Settings) -> None:
    """Read the data of every block, and look for the weights and priors that the settings name.

    Raises:
        ValueError: a file is missing or cannot be read, or a dataset is too small; one line lists
            all problems.
    """
    problems = find_problems(settings)
    if len(problems) == 1:
        raise ValueError(problems[0])
    if problems:
        numbered = " ".join(f"({number}) {problem}" for number, problem in enumerate(problems, 1))
        raise ValueError(f"{len(problems)} inputs cannot be used: {numbered}")


def find_problems(settings: Settings) -> list[str]:
    """List the inputs that are missing or unusable on this machine, and what to do about each."""
    checks: list[Callable[[], Any]] = []
    for name, block in settings.blocks.items():
        spec = settings.block_spec(name)
        checks.append(partial(load_split, spec.data, spec.split))
        if settings.training.weights == "imagenet":
            checks.append(partial(find_weights, block.architecture or settings.architecture))
    if settings.evaluation.training.weights == "imagenet":
        checks.append(partial(find_weights, settings.evaluation.architecture))
    for inversion in settings.inversions.values():
        checks.append(inversion.prior.check)
    checks += target_checks(settings)
    problems = []
    for check in checks:
        try:
            check()
        except ValueError as error:
            problems.append(str(error))
    return list(dict.fromkeys(problems))


def target_checks(settings: Settings) -> list[Callable[[], Any]]:
    """List the checks that the networks of the blocks fit their images and each defense.

    What does not fit would otherwise fail in every unit of an arm.
    """
    different: dict[str, SampleUnit] = {}
    for sample in settings.sample_units():
        spec, kind = sample.spec, type(sample.spec.defense)
        defense = spec.defense if kind.prepare is not Defense.prepare else None
        different.setdefault(repr((spec.architecture, defense, spec.block.data)), sample)
    load = lru_cache(maxsize=1)(load_split)
    return [partial(check_target, sample, load) for sample in different.values()]


@torch.no_grad()
def check_target(sample: SampleUnit, load: Callable[[Data, int], IdentitySplit]) -> None:
    """Build the untrained target model of a unit, with drawn weights, and show it an image.

    Args:
        sample: the unit.
        load: function that loads a split of a dataset.

    Raises:
        ValueError: the network, its defense and the images do not fit; the message names the arm.
    """
    split = load(sample.spec.block.data, sample.spec.block.split)
    spec = replace(sample.spec, defense=sample.spec.defense.minimal())
    try:
        model = new_target(spec, split, torch.device("cpu"), trained=True)
        model.eval()(split.test.images[torch.zeros(1, dtype=torch.long)])
    except ValueError as error:
        raise ValueError(f"{sample.name}: {error}") from None
