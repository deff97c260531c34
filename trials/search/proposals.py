"""What a sweep tries next: a function of the points so far, so that nothing else has to be kept.

Optuna is told every point anew at each proposal, and draws from a generator that belongs to the
number of the point. A sweep that was killed therefore goes on as it would have, with no study to
restore: the same finished and running points give the same proposal.
"""

from dataclasses import dataclass
from itertools import islice, product
from typing import Any

from analysis import schema
from atat_ray.utils.seeding import derive_seed
from trials.config.sweep import Asha, Grid, Options, Pareto, Space, SweepSettings, Tpe

ATTEMPTS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A point of a sweep as a search sees it.

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


def combination(grid: Grid, index: int) -> Options:
    """Give the options of a grid's point, from 0."""
    every = product(*(space.ends() for space in grid.options.values()))
    return dict(zip(grid.options, next(islice(every, index, None)), strict=True))


def propose(settings: SweepSettings, points: list[Point]) -> Options:
    """Propose the options of the next point of a search, none of which was there before.

    Args:
        settings: of the sweep; it has fewer points than are to be tried.
        points: in the order in which they were proposed.
    """
    study, distributions = told(settings, points)
    seen = {tuple(point.options.values()) for point in points}
    for _ in range(ATTEMPTS):
        trial = study.ask(distributions)
        if tuple(trial.params.values()) not in seen:
            return dict(trial.params)
    values = settings.values()  # the search insists on what was tried; the rest is as good as any
    assert values is not None, "a range of real numbers is not drawn from twice"
    rest = (one for one in product(*values) if one not in seen)
    return dict(zip(settings.search.options, next(rest), strict=True))


def told(settings: SweepSettings, points: list[Point]) -> tuple[Any, Any]:
    """Make an Optuna study that knows every point, and the distributions that it draws from."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = settings.search
    seed = derive_seed(settings.seed, "search", len(points)) % 2**32
    if isinstance(search, Asha):
        sampler: Any = optuna.samplers.RandomSampler(seed=seed)
    else:
        assert isinstance(search, Tpe | Pareto), "a grid has its combinations"
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=search.startup)
    down, up = optuna.study.StudyDirection.MINIMIZE, optuna.study.StudyDirection.MAXIMIZE
    study = optuna.create_study(
        sampler=sampler, directions=[down, up] if isinstance(search, Pareto) else [down]
    )
    distributions = {
        name: distribution(space, whole=settings.whole(name))
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
    """Say what Optuna is told of a finished point.

    TPE looks at ranks only: points below the clean accuracy that is asked for come after all
    others, whose leakage is at most 1, in the order of what they lack.
    """
    if isinstance(search, Pareto):
        return [point.leakage, point.clean_acc]
    if isinstance(search, Tpe) and point.clean_acc < search.clean_acc_at_least:
        return [1 + search.clean_acc_at_least - point.clean_acc]
    return [point.leakage]


def distribution(space: Space, *, whole: bool) -> Any:
    """Write a space as Optuna does."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if space.levels is not None:
        return CategoricalDistribution(space.levels)
    low, high = space.ends()
    if whole:
        return IntDistribution(int(low), int(high), log=space.log)
    return FloatDistribution(low, high, log=space.log)
