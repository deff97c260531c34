"""Run tasks on Ray Tune, in their order; in a campaign nothing looks at results."""

import logging
import pickle
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from atat_ray.utils.messages import lines_to
from trials.execution.classify import TaskLost
from trials.execution.resources import Resources
from trials.execution.tasks import AssetTask, UnitTask

LINE = "line"  # key of a result that carries a line for the user


class Events(Protocol):
    """What is called as tasks start and end."""

    def say(self, line: str) -> None:
        """A task has a line for the user."""

    def unit_started(self, unit_id: str) -> None:
        """A unit starts."""

    def unit_ended(self, unit_id: str) -> None:
        """A unit ended: it is finished, failed or stopped."""

    def unit_lost(self, unit_id: str, error: Any) -> None:
        """A unit's task raised an error or its process was lost."""

    def assets_built(self) -> None:
        """The assets of all blocks are built."""

    def assets_failed(self, name: str, error: Any) -> None:
        """The assets of a block cannot be built; no unit starts any more."""

    def broke(self, error: Exception) -> None:
        """An event raised an error in this process; no unit starts any more."""

    def most(self) -> int | None:
        """Return how many tasks may run at a time; None for as many as there is room for."""


def run_tasks(
    assets: Sequence[AssetTask],
    units: Iterable[UnitTask],
    *,
    at_a_time: int,
    storage: Path,
    stop_file: Path,
    events: Events,
    scheduler: Any = None,
) -> None:
    """Run the assets of the blocks, then units in their order, on reused Tune actors.

    Args:
        assets: run first.
        units: each starts once the task it names in ``after`` is done. A unit is taken from the
            iterable when there is room for it, so that a search can propose it then.
        at_a_time: Tune trials at a time.
        storage: folder for what Tune writes.
        stop_file: while it exists, nothing new starts.
        events: called in this process.
        scheduler: of Tune, where it may stop units early; never in a randomised campaign.

    Raises:
        Exception: what an event raised, or why Tune lost the tasks that were running.
    """
    from ray import tune

    logging.getLogger("ray").setLevel(logging.CRITICAL)  # ``events`` reports errors
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    guard = Guard(events)
    tuner = tune.Tuner(
        tune.with_resources(run_task, placement),
        tune_config=tune.TuneConfig(
            search_alg=make_searcher(assets, iter(units), stop_file, guard),
            num_samples=-1,  # as many as the searcher has
            scheduler=scheduler,
            reuse_actors=True,
            max_concurrent_trials=at_a_time,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(storage),
            callbacks=[make_callback(assets, stop_file, guard)],
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    except Exception as error:  # Tune ends by what it does not know, such as memory that ran out
        if not guard.errors:
            raise PassLost(str(error)) from error
    if guard.errors:
        raise guard.errors[0]


class PassLost(RuntimeError):
    """Tune has lost all tasks that were running; ``__cause__`` says why."""


class Guard:
    """Keep what events raise from Tune, which would end all tasks and hide the cause.

    Args:
        events: called in this process.

    Attributes:
        errors: what was raised.
    """

    def __init__(self, events: Events) -> None:
        self.events = events
        self.errors: list[Exception] = []

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Keep an exception of a ``with`` block."""
        try:
            yield
        except Exception as error:
            if not self.errors:
                self.events.broke(error)
            self.errors.append(error)


def run_task(config: dict[str, Any]) -> None:
    """Run the task of a Tune trial, in its process; the driver gets its lines for the user."""
    from ray import tune

    with lines_to(lambda line: tune.report({LINE: line})):
        config["task"].run()
    tune.report({"done": 1})


def placement(config: dict[str, Any]) -> Any:
    """Return the resources of a Tune trial's own process."""
    from ray import tune

    return tune.PlacementGroupFactory([own_share(config["task"].resources)])


def own_share(resources: Resources) -> dict[str, float]:
    """Return what a task's own process takes.

    The process of a unit of several workers only waits for them and takes next to nothing.
    ``at_a_time`` keeps more units from starting than have room for all their workers, or they would
    wait for ever.
    """
    from atat_ray.unit.distributed import WAITER_CPU

    return resources.amounts if resources.processes == 1 else {"CPU": WAITER_CPU}


def make_searcher(
    assets: Sequence[AssetTask], units: Iterator[UnitTask], stop_file: Path, guard: Guard
) -> Any:
    """Make the searcher that hands out tasks in their order and learns nothing from results.

    A unit is held back until the task it waits for is done, and no unit overtakes another. Tasks
    are held back while as many run as may. The queue ends if assets or an event fail.
    """
    from ray.tune.search import Searcher

    class TaskQueue(Searcher):
        def __init__(self) -> None:
            super().__init__()
            self.assets = iter(assets)
            self.building: dict[str, str] = {}  # name of the task, by Tune trial
            self.running: set[str] = set()
            self.held: UnitTask | None = None
            self.broken = False

        def __reduce__(self) -> Any:
            return Searcher, ()  # Tune saves its searcher; a campaign resumes without it

        def suggest(self, trial_id: str) -> Any:
            if self.broken or guard.errors or stop_file.exists():
                return Searcher.FINISHED
            most = guard.events.most()
            if most is not None and len(self.running) >= most:
                return None  # Tune asks again
            task = next(self.assets, None)
            if task is not None:
                self.building[trial_id] = task.name
                return self.give(trial_id, task)
            with guard.watch():
                self.held = self.held or next(units, None)
            if self.held is None:
                return Searcher.FINISHED
            if self.held.after in self.building.values():
                return None
            unit, self.held = self.held, None
            return self.give(trial_id, unit)

        def give(self, trial_id: str, task: Any) -> dict[str, Any]:
            self.running.add(trial_id)
            return {"task": task}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            self.running.discard(trial_id)
            self.broken |= error and trial_id in self.building
            self.building.pop(trial_id, None)

        def save(self, checkpoint_path: str) -> None:
            Path(checkpoint_path).touch()

        def restore(self, checkpoint_path: str) -> None:
            pass

    return TaskQueue()


def make_callback(assets: Sequence[AssetTask], stop_file: Path, guard: Guard) -> Any:
    """Make the Tune callback that calls the events as tasks start and end.

    Tasks that Ray was given before the stop file appeared, and that get their turn after it, do
    nothing; no event is called for them.
    """
    from ray import tune

    events, skipped = guard.events, set[str]()
    first = {task.name for task in assets}
    unbuilt = set(first)

    class TaskCallback(tune.Callback):
        def __reduce__(self) -> Any:
            return tune.Callback, ()

        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            name = trial.config["task"].name
            if stop_file.exists():
                skipped.add(name)
            elif name not in first:
                with guard.watch():
                    events.unit_started(name)

        def on_trial_result(
            self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any
        ) -> None:
            if LINE in result:
                events.say(result[LINE])

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            name = trial.config["task"].name
            if name in skipped:
                return
            unbuilt.discard(name)
            with guard.watch():
                if name not in first:
                    events.unit_ended(name)
                elif not unbuilt and not stop_file.exists():
                    events.assets_built()

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            name, error = trial.config["task"].name, error_of(trial)
            with guard.watch():
                if name in first:
                    events.assets_failed(name, error)
                else:
                    events.unit_lost(name, error)

    return TaskCallback()


def error_of(trial: Any) -> BaseException:
    """Read the error of a Tune trial from its folder.

    Tune stores the exceptions that it knows, and of others, such as memory that ran out, the text.
    """
    try:
        error = pickle.loads(Path(trial.pickled_error_file).read_bytes())
        if isinstance(error, BaseException):
            return error
    except Exception:  # a missing or truncated pickle raises many kinds
        pass
    try:
        text = Path(trial.error_file).read_text(errors="replace")
    except (OSError, TypeError):
        text = ""
    return TaskLost(text.partition("\n")[2].strip() or "its process died")
