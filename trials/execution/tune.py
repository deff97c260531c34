"""One pass of Ray Tune over units: first in, first out; in a campaign nothing looks at results."""

import logging
import pickle
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from trials.execution.resources import Need


def run_units(
    work: Callable[[str], None],
    queue: Iterable[str],
    *,
    first: Sequence[str] = (),
    waits_for: Callable[[str], str] = str,
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
        first: what units wait for, by names that are no unit ids; done like a unit.
        waits_for: names that of ``first`` which a unit waits for.
        need_of: what a unit or a name of ``first`` needs.
        at_a_time: Tune trials at a time.
        storage: folder for what Tune writes.
        stop: a file; while it is there, nothing new starts.
        events: its ``started(unit_id)``, ``ended(unit_id)`` and ``lost(unit_id, error)`` are told;
            and ``prepared()`` when all of ``first`` is done, or ``unprepared(name, error)``, after
            which no unit starts.
        scheduler: of Tune, where it may stop units early; never in a randomised campaign.
    """
    import ray
    from ray import tune

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # ``events`` is told, and says it
    kept = ray.put(work)  # Tune unpickles what a trial runs for every trial: that must stay small

    def unit(config: dict[str, Any]) -> None:
        fetched(kept)(config["unit_id"])
        tune.report({"done": 1})

    def resources(config: dict[str, Any]) -> Any:
        return tune.PlacementGroupFactory([own_share(need_of(config["unit_id"]))])

    tune.Tuner(
        tune.with_resources(unit, resources),
        tune_config=tune.TuneConfig(
            search_alg=queue_of(queue, stop, first, waits_for),
            num_samples=-1,  # as many as the queue has
            scheduler=scheduler,
            reuse_actors=True,
            max_concurrent_trials=at_a_time,
        ),
        run_config=tune.RunConfig(
            name="tune", storage_path=str(storage), callbacks=[tell(events, stop, first)], verbose=0
        ),
    ).fit()


@lru_cache(maxsize=1)
def fetched(kept: Any) -> Callable[[str], None]:
    """Fetch what units run into this process, once for all that it runs."""
    import ray

    return ray.get(kept)


def own_share(need: Need) -> dict[str, float]:
    """Say what a Tune trial's own process takes.

    A unit of several workers only waits for them: its process takes next to nothing, and no more
    of them start than all their workers have room for, or they would wait for ever.
    """
    from atat_ray.unit.distributed import WAITER_CPU

    return need.resources if need.processes == 1 else {"CPU": WAITER_CPU}


def queue_of(
    queue: Iterable[str],
    stop: Path,
    first: Sequence[str] = (),
    waits_for: Callable[[str], str] = str,
) -> Any:
    """Make the searcher that hands out names in their order and learns nothing from results.

    All of ``first`` comes first. A unit is held back until what it waits for is done, and the queue
    ends if some of it failed; a process that has nothing to do meanwhile would be given up, so no
    unit waits for more than that.
    """
    from ray.tune.search import Searcher

    class Queue(Searcher):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.queue = iter(first), iter(queue)
            self.undone: dict[str, str] = {}  # names of what is first, by the trial that makes it
            self.held: str | None = None
            self.broken = False

        def __reduce__(self) -> Any:
            return Searcher, ()  # Tune saves its searcher; a campaign resumes without it

        def suggest(self, trial_id: str) -> Any:
            if self.broken or stop.exists():
                return Searcher.FINISHED
            name = next(self.first, None)
            if name is not None:
                self.undone[trial_id] = name
                return {"unit_id": name}
            self.held = self.held or next(self.queue, None)
            if self.held is None:
                return Searcher.FINISHED
            if waits_for(self.held) in self.undone.values():
                return None  # ask again later
            name, self.held = self.held, None
            return {"unit_id": name}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            self.broken |= error and trial_id in self.undone
            self.undone.pop(trial_id, None)

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


def tell(events: Any, stop: Path, first: Sequence[str] = ()) -> Any:
    """Make the Tune callback that tells ``events`` of every unit that starts and ends.

    Units that Ray was given before ``stop`` appeared and that get their turn after it do nothing,
    and nothing is told of them.
    """
    from ray import tune

    passed: set[str] = set()
    undone = set(first)

    class Tell(tune.Callback):
        def __reduce__(self) -> Any:
            return tune.Callback, ()

        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            name = trial.config["unit_id"]
            if stop.exists():
                passed.add(name)
            elif name not in first:
                events.started(name)

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            name = trial.config["unit_id"]
            if name in passed:
                return
            if name not in first:
                events.ended(name)
                return
            undone.discard(name)
            if not undone and not stop.exists():
                events.prepared()

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            name = trial.config["unit_id"]
            told = events.unprepared if name in first else events.lost
            told(name, error_of(trial))

    return Tell()
