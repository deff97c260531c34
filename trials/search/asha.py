"""ASHA for sweeps that can be resumed: it continues from the accuracies reported earlier."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Halving:
    """Rule by which ASHA stops the training of points.

    Attributes:
        epochs: of a whole training.
        grace: epochs before the first decision.
        reduction: the best 1 / ``reduction`` of the points that reach a decision continue.
        curves: clean accuracy by epoch of each point that has reported, also in earlier runs.
        on_stop: called with (unit_id, epoch, clean_acc) of each point that is stopped.
    """

    epochs: int
    grace: int
    reduction: float
    curves: dict[str, dict[int, float]]
    on_stop: Callable[[str, int, float], None]

    def scheduler(self) -> Any:
        """Build the scheduler for Tune and replay the accuracies reported so far.

        Tune's ASHA identifies points by Tune trials, which are new in a resumed sweep. This
        scheduler identifies points by unit id.
        """
        from ray.tune.schedulers import FIFOScheduler, TrialScheduler

        asha, on_stop = self.new_asha(), self.on_stop

        def decide(unit_id: str, result: dict[str, Any]) -> str:
            return asha.on_trial_result(None, SimpleNamespace(trial_id=unit_id), result)

        def add(unit_id: str) -> None:
            asha.on_trial_add(None, SimpleNamespace(trial_id=unit_id))

        for unit_id, curve in self.curves.items():
            add(unit_id)
            for epoch, clean_acc in sorted(curve.items()):
                decide(unit_id, {"epoch": epoch, "clean_acc": clean_acc})

        class AshaByUnitId(FIFOScheduler):
            def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
                add(trial.config["task"].name)

            def on_trial_result(self, tune_controller: Any, trial: Any, result: Any) -> str:
                action = decide(trial.config["task"].name, result)
                if action == TrialScheduler.STOP:
                    on_stop(trial.config["task"].name, result["epoch"], result["clean_acc"])
                return action

        return AshaByUnitId()

    def new_asha(self) -> Any:
        """Build Tune's ASHA scheduler."""
        from ray.tune.schedulers import ASHAScheduler

        return ASHAScheduler(
            time_attr="epoch",
            metric="clean_acc",
            mode="max",
            max_t=self.epochs,
            grace_period=self.grace,
            reduction_factor=self.reduction,
            stop_last_trials=False,
        )
