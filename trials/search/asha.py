"""ASHA over the points of a sweep, by their names, with what was reported before a kill."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Halving:
    """When ASHA stops the training of a point.

    Attributes:
        epochs: of a whole training.
        grace: epochs before the first decision.
        reduction: of so many points that reach a decision, one goes on.
        curves: clean accuracy by epoch of the points that have reported, earlier runs included.
        on_stop: told (unit_id, epoch, clean accuracy) of each point that is stopped.
    """

    epochs: int
    grace: int
    reduction: float
    curves: dict[str, dict[int, float]]
    on_stop: Callable[[str, int, float], None]

    def scheduler(self) -> Any:
        """Make Tune's scheduler.

        Tune's own ASHA knows points by Tune trials, which a resumed sweep has anew; here it knows
        them by their names, and is told again what it knew.
        """
        from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

        asha = ASHAScheduler(
            time_attr="epoch",
            metric="clean_acc",
            mode="max",
            max_t=self.epochs,
            grace_period=self.grace,
            reduction_factor=self.reduction,
            stop_last_trials=False,
        )
        on_stop = self.on_stop

        def decide(unit_id: str, result: dict[str, Any]) -> str:
            return asha.on_trial_result(None, SimpleNamespace(trial_id=unit_id), result)  # type: ignore[arg-type]

        def add(unit_id: str) -> None:
            asha.on_trial_add(None, SimpleNamespace(trial_id=unit_id))  # type: ignore[arg-type]

        for unit_id, curve in self.curves.items():
            add(unit_id)
            for epoch, clean_acc in sorted(curve.items()):
                decide(unit_id, {"epoch": epoch, "clean_acc": clean_acc})

        class ByName(FIFOScheduler):
            def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
                add(trial.config["task"].name)

            def on_trial_result(self, tune_controller: Any, trial: Any, result: Any) -> str:
                action = decide(trial.config["task"].name, result)
                if action == TrialScheduler.STOP:
                    on_stop(trial.config["task"].name, result["epoch"], result["clean_acc"])
                return action

        return ByName()
