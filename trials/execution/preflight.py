"""Check everything that a run needs before anything is written; report all that is missing."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from atat_ray.data import Data, IdentitySplit, load_split
from atat_ray.models.backbones import find_weights
from atat_ray.training.interface import Defense
from atat_ray.unit.train_stage import new_target
from trials.config.settings import SampleUnit, Settings
from trials.tracking.kinds import RecordKind
from trials.tracking.record import MlflowRecord

ROOM = 2**28  # bytes that a folder must have free; a campaign on the ORL faces takes 100 MB


def check_data(settings: Settings) -> None:
    """Read the data of every block, and look for the weights and priors that the settings name.

    Raises:
        ValueError: a file is missing or cannot be read, or a dataset is too small; all problems
            are listed, one line each.
    """
    refuse(data_problems(settings))


def check_inputs(
    settings: Settings,
    kind: RecordKind,
    folder: Path,
    tracking_uri: str | None,
    replaced: list[dict[str, str]],
) -> None:
    """Check what a new run reads and where it writes, before anything is written.

    Args:
        settings: of the campaign or sweep.
        kind: of its record.
        folder: of the campaign or sweep.
        tracking_uri: of MLflow, if one was given.
        replaced: hashes under which the folder was registered, if it is begun anew.

    Raises:
        ValueError: data, weights, the file of a prior, a package or the room to write are missing,
            or the record cannot be kept at its address; all problems are listed, one line each.
    """
    record = partial(check_record, settings, kind, tracking_uri, replaced)
    refuse([*data_problems(settings), *problems_of([partial(check_folder, folder), record])])


def check_record(
    settings: Settings, kind: RecordKind, tracking_uri: str | None, replaced: list[dict[str, str]]
) -> None:
    """Check that a record can be kept at an address; without one it lies in the folder.

    Raises:
        ValueError: the message says what to do.
    """
    if tracking_uri:
        tags = {"protocol_sha256": settings.sha256()}
        MlflowRecord(tracking_uri, settings.name, kind).check(tags, replaced)


def check_folder(folder: Path) -> None:
    """Check that a folder can be made or written, and that its disk has room.

    Raises:
        ValueError: it cannot, or the disk is full; the message names the folder that refuses.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(
            f"{folder} cannot be written: {place} is no folder that takes files; choose another "
            "folder with --out"
        )
    free = shutil.disk_usage(place).free
    if free < ROOM:
        raise ValueError(
            f"{free / 2**20:.0f} MiB are free at {place}, {ROOM / 2**20:.0f} are needed; free some "
            "space or choose another folder with --out"
        )


def data_problems(settings: Settings) -> list[str]:
    """List what is wrong with data, weights and priors, or else with networks and their images."""
    return problems_of(data_checks(settings)) or problems_of(target_checks(settings))


def data_checks(settings: Settings) -> list[Callable[[], Any]]:
    """List the checks of data, weights and priors; each raises ValueError."""
    checks: list[Callable[[], Any]] = []
    for name, block in settings.blocks.items():
        spec = settings.block_spec(name)
        checks.append(partial(load_split, spec.data, spec.split))
        if settings.training.weights == "imagenet":
            checks.append(partial(find_weights, block.architecture or settings.architecture))
    for students in settings.students().values():
        if settings.training.weights == "imagenet" and students.architecture is not None:
            checks.append(partial(find_weights, students.architecture))
    if settings.evaluation.training.weights == "imagenet":
        checks.append(partial(find_weights, settings.evaluation.architecture))
    checks += [inversion.prior.check for inversion in settings.inversions.values()]
    return checks


def problems_of(checks: list[Callable[[], Any]]) -> list[str]:
    """Run checks and list what is wrong and what to do about it, each problem once."""
    problems = []
    for check in checks:
        try:
            check()
        except ValueError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"cannot use {error.filename or 'a file'}: {error.strerror or error}")
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


def refuse(problems: list[str]) -> None:
    """Raise one error that lists problems, one line each; nothing if there are none.

    Raises:
        ValueError: there are problems.
    """
    if len(problems) == 1:
        raise ValueError(problems[0])
    if problems:
        lines = "".join(f"\n({number}) {problem}" for number, problem in enumerate(problems, 1))
        raise ValueError(f"{len(problems)} inputs cannot be used:{lines}")
