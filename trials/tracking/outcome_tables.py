"""Outcome of a unit as the metrics and the class table of its run in MLflow."""

from typing import Any

import pandas as pd

from analysis import schema


def classes_of(outcome: dict[str, Any]) -> str:
    """Write a unit's table of classes as CSV, with the columns of the schema."""
    return pd.DataFrame(outcome["classes"])[list(schema.CLASS_COLUMNS)].to_csv(index=False)


def metrics_of(outcome: dict[str, Any]) -> list[Any]:
    """Name a unit's outcomes and curves as the schema does."""
    from mlflow.entities import Metric

    values = {
        schema.CLEAN_ACC: outcome["clean_acc"],
        schema.TRAIN_ACC: outcome["train_acc"],
        schema.DIVERGED: float(outcome["diverged"]),
        **outcome["inversions"],
        **{schema.robust_column(float(e)): v for e, v in outcome["robust_acc"].items()},
        **{schema.SECONDS_PREFIX + stage: s for stage, s in outcome["seconds"].items()},
    }
    metrics = [Metric(name, value, 0, 0) for name, value in values.items()]
    for epoch, curves in enumerate(outcome["curves"]):
        metrics += [
            Metric(schema.EPOCH_PREFIX + name, value, 0, epoch) for name, value in curves.items()
        ]
    return metrics
