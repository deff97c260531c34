"""Outcome of a unit as the metrics and the artifacts of its run in MLflow."""

import json
from io import BytesIO
from typing import Any

import pandas as pd
from PIL import Image

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
        **{schema.BOUNDS_PREFIX + name: v for name, v in outcome.get("bounds", {}).items()},
        **{schema.SECONDS_PREFIX + stage: s for stage, s in outcome["seconds"].items()},
    }
    metrics = [Metric(name, value, 0, 0) for name, value in values.items()]
    for epoch, curves in enumerate(outcome["curves"]):
        metrics += [
            Metric(schema.EPOCH_PREFIX + name, value, 0, epoch) for name, value in curves.items()
        ]
    return metrics


def assets_text(assets: list[dict[str, Any]]) -> str:
    """Write the descriptions of evaluation models and priors as the record keeps them."""
    return json.dumps(assets, indent=1)


def artifacts_of(outcome: dict[str, Any], pictures: dict[str, Any]) -> dict[str, bytes]:
    """Return the artifacts of a finished unit, content by path: class table and pictures.

    Args:
        outcome: of ``atat_ray.unit.run_unit``.
        pictures: uint8 arrays (H, W) or (H, W, 3) by inversion attack.
    """
    artifacts = {schema.CLASSES_FILE: classes_of(outcome).encode()}
    for inversion, picture in pictures.items():
        buffer = BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        artifacts[f"{schema.PICTURES_FOLDER}/{inversion}.png"] = buffer.getvalue()
    return artifacts
