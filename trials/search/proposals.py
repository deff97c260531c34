"""Propose the next point of a sweep, as a function of the earlier points alone.

Each proposal builds a new Optuna study from all earlier points and seeds its sampler by the number
of the point. No study is stored: the same finished and running points give the same proposal, so a
sweep that was killed resumes as if it had not been.
"""

from dataclasses import dataclass
from itertools import islice, product
from typing import Any

from analysis import schema
from atat_ray.utils.seeding import derive_seed
from trials.config.search_methods import Asha, Grid, Options, Pareto, Space, Tpe
from trials.config.sweep import SweepSettings

ATTEMPTS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A point of a sweep: options and, once it has finished, outcomes.

    Attributes:
        options: of the defense.
        status: finished, failed, stopped or pending.
        leakage: the sweep's outcome; 0 unless finished.
        clean_acc: clean accuracy; 0 unless finished.
    """

    options: Options
    status: str
    leakage: float = 0.0
    clean_acc: float = 0.0


def grid_point(grid: Grid, index: int) -> Options:
    """Return the options of a grid's point; ``index`` counts from 0."""
    combinations = product(*(space.ends() for space in grid.options.values()))
    return dict(zip(grid.options, next(islice(combinations, index, None)), strict=True))


def propose(settings: SweepSettings, points: list[Point]) -> Options:
    """Propose the options of the next point; they differ from those of all earlier points.

    Args:
        settings: of the sweep.
        points: earlier points in the order in which they were proposed, fewer than
            ``settings.total()``.
    """
    study, distributions = build_study(settings, points)
    tried = {tuple(point.options.values()) for point in points}
    for _ in range(ATTEMPTS):
        trial = study.ask(distributions)
        if tuple(trial.params.values()) not in tried:
            return dict(trial.params)
    # The sampler repeats earlier points: take the first combination that was not tried.
    values = settings.values()
    assert values is not None, "a sampler of real numbers does not repeat a point"
    untried = (combination for combination in product(*values) if combination not in tried)
    return dict(zip(settings.search.options, next(untried), strict=True))


def build_study(settings: SweepSettings, points: list[Point]) -> tuple[Any, Any]:
    """Build an Optuna study of all earlier points, and the distributions of the options."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = settings.search
    seed = derive_seed(settings.seed, "search", len(points)) % 2**32
    if isinstance(search, Asha):
        sampler: Any = optuna.samplers.RandomSampler(seed=seed)
    else:
        assert isinstance(search, Tpe | Pareto), "a grid needs no proposals"
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=search.startup)
    down, up = optuna.study.StudyDirection.MINIMIZE, optuna.study.StudyDirection.MAXIMIZE
    study = optuna.create_study(
        sampler=sampler, directions=[down, up] if isinstance(search, Pareto) else [down]
    )
    distributions = {
        name: distribution(space, integers=settings.takes_integers(name))
        for name, space in search.options.items()
    }
    state = {
        schema.FINISHED: optuna.trial.TrialState.COMPLETE,
        schema.PENDING: optuna.trial.TrialState.RUNNING,
    }
    for point in points:
        finished = point.status == schema.FINISHED
        trial = optuna.trial.create_trial(
            state=state.get(point.status, optuna.trial.TrialState.FAIL),
            params=point.options,
            distributions=distributions,
            values=objectives(search, point) if finished else None,
        )
        study.add_trial(trial)
    return study, distributions


def objectives(search: Any, point: Point) -> list[float]:
    """Return the objective values of a finished point for Optuna.

    TPE uses ranks only. A point whose clean accuracy is too low gets 1 plus the missing accuracy,
    so that it ranks behind all others, whose leakage is at most 1.
    """
    if isinstance(search, Pareto):
        return [point.leakage, point.clean_acc]
    if isinstance(search, Tpe) and point.clean_acc < search.clean_acc_at_least:
        return [1 + search.clean_acc_at_least - point.clean_acc]
    return [point.leakage]


def distribution(space: Space, *, integers: bool) -> Any:
    """Convert a space to a distribution of Optuna.

    Args:
        space: levels or range of an option.
        integers: the option takes whole numbers only.
    """
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if space.levels is not None:
        return CategoricalDistribution(space.levels)
    low, high = space.ends()
    if integers:
        return IntDistribution(int(low), int(high), log=space.log)
    return FloatDistribution(low, high, log=space.log)
