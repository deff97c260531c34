"""Check the inputs of a run before it starts: data, ImageNet weights, files of priors."""

from collections.abc import Callable
from functools import partial
from typing import Any

from atat_ray.data import load_split
from atat_ray.models.backbones import find_weights
from trials.config.settings import Settings


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
    problems = []
    for check in checks:
        try:
            check()
        except ValueError as error:
            problems.append(str(error))
    return list(dict.fromkeys(problems))
