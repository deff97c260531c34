"""One pass of Ray Tune over units: first in, first out; in a campaign nothing looks at results."""

import pickle
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from trials.devices import Need


class Stopped(Exception):
    """A unit that was asked to stop between two stages; what is done is kept."""


def run_units(
    work: Callable[[str], None],
    queue: Iterable[str],
    *,
    need_of: Callable[[str], Need],
    at_a_time: int,
    storage: Path,
    stop: Path,
    events: Any,
    scheduler: Any = None,
) -> None:
    """Run ``work(unit_id)`` for each unit of a queue, in its order, on reused Tune actors.

    Args:
        work: runs in a Tune trial's process; raises what is no fault of the unit.
        queue: unit ids; one that is not reached before ``stop`` appears is not started. Each is
            taken when there is room for it, so that a search may think of it then.
        need_of: what a unit needs, by its id.
        at_a_time: Tune trials at a time.
        storage: folder for what Tune writes.
        stop: a file; while it is there, nothing new starts.
        events: its ``started(unit_id)``, ``ended(unit_id)`` and ``lost(unit_id, error)`` are told.
        scheduler: of Tune, where it may stop units early; never in a randomised campaign.
    """
    from ray import tune

    def unit(config: dict[str, Any]) -> None:
        work(config["unit_id"])
        tune.report({"done": 1})

    def resources(config: dict[str, Any]) -> Any:
        return tune.PlacementGroupFactory([own_share(need_of(config["unit_id"]))])

    tune.Tuner(
        tune.with_resources(unit, resources),
        tune_config=tune.TuneConfig(
            search_alg=queue_of(iter(queue), stop),
            num_samples=-1,  # as many as the queue has
            scheduler=scheduler,
            reuse_actors=True,
            max_concurrent_trials=at_a_time,
        ),
        run_config=tune.RunConfig(
            name="tune", storage_path=str(storage), callbacks=[tell(events, stop)], verbose=0
        ),
    ).fit()


def own_share(need: Need) -> dict[str, float]:
    """Say what a Tune trial's own process takes.

    A unit of several workers only waits for them: its process takes next to nothing, and no more
    of them start than all their workers have room for, or they would wait for ever.
    """
    return need.resources if need.processes == 1 else {"CPU": 0.01}


def queue_of(unit_ids: Iterator[str], stop: Path) -> Any:
    """Make the searcher that hands out unit ids in their order and learns nothing from results."""
    from ray.tune.search import Searcher

    class Queue(Searcher):
        def __reduce__(self) -> Any:
            return Searcher, ()  # Tune saves its searcher; a campaign resumes without it

        def suggest(self, trial_id: str) -> Any:
            unit_id = None if stop.exists() else next(unit_ids, None)
            return Searcher.FINISHED if unit_id is None else {"unit_id": unit_id}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            pass

        def save(self, checkpoint_path: str) -> None:
            Path(checkpoint_path).touch()

        def restore(self, checkpoint_path: str) -> None:
            pass

    return Queue()


def error_of(trial: Any) -> Any:
    """Read the error of a Tune trial from its folder; ``get_error`` knows it only later."""
    try:
        return pickle.loads(Path(trial.pickled_error_file).read_bytes())
    except (OSError, TypeError, pickle.UnpicklingError):
        return trial.get_error()


def tell(events: Any, stop: Path) -> Any:
    """Make the Tune callback that tells ``events`` of every unit that starts and ends.

    Units that Ray was given before ``stop`` appeared and that get their turn after it do nothing,
    and nothing is told of them.
    """
    from ray import tune

    passed: set[str] = set()

    class Tell(tune.Callback):
        def __reduce__(self) -> Any:
            return tune.Callback, ()

        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            unit_id = trial.config["unit_id"]
            passed.add(unit_id) if stop.exists() else events.started(unit_id)

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            if trial.config["unit_id"] not in passed:
                events.ended(trial.config["unit_id"])

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            events.lost(trial.config["unit_id"], error_of(trial))

    return Tell()
