"""Compare the recorded run of a unit with what its folder holds."""

import sys
from io import BytesIO
from itertools import zip_longest
from math import isfinite
from typing import Any

from PIL import Image

from analysis import schema
from trials.tracking.outcome_tables import artifacts_of, metrics_of

END_TAGS = ("status", "reason", "failed_before")  # they say how a unit ended
# They come from notes, which may be lost, and from the source tree: no reason to record anew.
OF_THE_RUN = ("git_commit", "times_lost")


def is_recorded(run: Any, tags: dict[str, str], outcome: dict[str, Any] | None) -> bool:
    """Tell whether a run has the tags and metrics of a unit that has ended.

    A tag that the folder has lost (a deleted note) stays as it is recorded.

    Args:
        run: MLflow's ``Run`` of the unit.
        tags: of the unit, by its folder.
        outcome: of a finished unit, else None.
    """
    recorded = run.data.tags
    if any(recorded.get(name, "") != tags.get(name, "") for name in END_TAGS):
        return False
    compared = {name: value for name, value in tags.items() if value and name not in OF_THE_RUN}
    if any(recorded.get(name, "") != value for name, value in compared.items()):
        return False
    return outcome is None or not metric_differences(run, outcome)


def tag_differences(run: Any, tags: dict[str, str]) -> list[str]:
    """Name the tags of a run that differ from these, one line each."""
    recorded = run.data.tags
    return [
        f"unit {recorded.get('unit_id', '')}: {name} is recorded as "
        f"{recorded.get(name) or 'nothing'}, its folder has {value or 'nothing'}"
        for name, value in tags.items()
        if recorded.get(name, "") != value
    ]


def metric_differences(run: Any, outcome: dict[str, Any]) -> list[str]:
    """Name the metrics of a run that differ from an outcome, one line each.

    Durations are not compared, because a unit that is run again takes another time.
    """
    metrics = run.data.metrics
    expected = {metric.key: metric.value for metric in metrics_of(outcome)}  # last value of curves
    return [
        f"unit {run.data.tags.get('unit_id', '')}: {name} is recorded as "
        f"{metrics.get(name, 'nothing')}, its folder has {expected.get(name, 'nothing')}"
        for name in {**expected, **metrics}
        if not name.startswith(schema.SECONDS_PREFIX)
        and not same_value(metrics.get(name), expected.get(name))
    ]


def same_value(recorded: float | None, value: float | None) -> bool:
    """Tell whether a recorded metric equals a value; all values that are not finite are equal.

    MLflow stores an infinite value as the largest finite one.
    """
    if recorded is None or value is None or isfinite(value):
        return recorded == value
    return not isfinite(recorded) or abs(recorded) == sys.float_info.max


def agrees(
    store: Any,
    run: Any,
    tags: dict[str, str],
    outcome: dict[str, Any],
    pictures: dict[str, Any],
) -> bool:
    """Tell whether a run has the tags, metrics and artifacts of a finished unit.

    Args:
        store: :class:`analysis.record.store.Store` that holds the run.
        run: MLflow's ``Run`` of the unit.
        tags: of the unit, by its folder.
        outcome: of the unit.
        pictures: uint8 arrays by inversion attack.
    """
    artifacts = artifacts_of(outcome, pictures)
    return is_recorded(run, tags, outcome) and not altered(store, run, artifacts)


def altered(store: Any, run: Any, artifacts: dict[str, bytes]) -> dict[str, str]:
    """Say in what the artifacts of a run differ from these, one line each, by path."""
    run_id, place = run.info.run_id, run.info.artifact_uri
    missing = store.missing(run_id, list(artifacts), artifact_uri=place)
    found = {}
    for path, expected in artifacts.items():
        there = path not in missing
        recorded = store.read_bytes(run_id, path, artifact_uri=place) if there else None
        found[path] = artifact_difference(path, recorded, expected)
    return {path: line for path, line in found.items() if line}


def artifact_difference(path: str, recorded: bytes | None, expected: bytes) -> str:
    """Say in what a recorded artifact differs from the one expected; empty if it does not.

    Args:
        path: of the artifact in the run.
        recorded: its content; None if the run lacks it.
        expected: what the folder of the unit gives.
    """
    if not path.endswith(".png"):
        given = (recorded or b"").decode("utf-8", errors="replace").splitlines()
        rows = enumerate(zip_longest(given, expected.decode().splitlines(), fillvalue="nothing"), 1)
        return next(
            (
                f"line {number} of {path} is recorded as {line}; its folder has {own}"
                for number, (line, own) in rows
                if line != own
            ),
            "" if recorded == expected else f"{path} in the record has other line ends",
        )
    if recorded is None:
        return f"{path} is missing in the record"
    same = recorded == expected or same_pixels(recorded, expected)
    return "" if same else f"{path} in the record is not the picture of its score.pt"


def same_pixels(recorded: bytes, expected: bytes) -> bool:
    """Tell whether an image holds the pixels of another; versions of Pillow compress differently.

    Args:
        recorded: any bytes.
        expected: a PNG image.
    """
    own = Image.open(BytesIO(expected))
    try:
        found = Image.open(BytesIO(recorded), formats=["PNG"])
        if (found.mode, found.size) != (own.mode, own.size):
            return False
        return found.tobytes() == own.tobytes()
    except Exception:  # Pillow raises many types of error on damaged files
        return False
