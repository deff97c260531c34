"""Names of the columns of the unit table: built, read, labelled and given a unit."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.schema import names as schema
from analysis.schema.names import ROBUST_PREFIX

_INVERSION_LABELS = {
    "att_acc_1": "AttAcc@1",
    "att_acc_5": "AttAcc@5",
    "lda_att_acc_1": "AttAcc@1 by the LDA evaluator",
    "lda_att_acc_5": "AttAcc@5 by the LDA evaluator",
    "delta_eval": "delta_eval, distance to the nearest training image",
    "target_confidence": "confidence of the target model",
    "evaluation_confidence": "confidence of the evaluation models",
    "student_acc": "clean accuracy of the students",
    "student_agreement": "agreement of the students with the target model",
}


@dataclass(frozen=True, slots=True)
class Unit:
    """Unit in which a column is printed: ``scale * value`` with ``digits`` decimals."""

    scale: float
    name: str  # of the unit, as it follows a difference
    digits: int
    largest: float  # value of an outcome in the table; the smallest is 0


_POINTS = Unit(100.0, "pp", 1, 1.0)
_DISTANCE = Unit(1.0, "L2", 3, 2.0)
_SECONDS = Unit(1.0, "s", 1, float("inf"))


def unit_of(column: str) -> Unit:
    """Return the unit of an outcome: percentage points unless it is a distance or a duration."""
    if column.startswith(schema.SECONDS_PREFIX):
        return _SECONDS
    if column.endswith("/delta_eval"):
        return _DISTANCE
    return _POINTS


def clip_difference(low: float, high: float, column: str) -> tuple[float, float]:
    """Cut an interval of a difference (printed unit) at the largest one that is possible.

    An infinite end says that no value is excluded, and stays.
    """
    unit = unit_of(column)
    reach = unit.scale * unit.largest
    ends = (v if abs(v) == float("inf") else min(max(v, -reach), reach) for v in (low, high))
    return next(ends), next(ends)


def clip_mean(low: float, high: float, column: str) -> tuple[float, float]:
    """Cut an interval of a mean (printed unit) at the smallest and largest possible outcome."""
    unit = unit_of(column)
    return max(low, 0.0), min(high, unit.scale * unit.largest)


def label(column: str) -> str:
    """Return the name of an outcome in a sentence: ``AttAcc@1 (standard inversion)``."""
    if column == schema.CLEAN_ACC:
        return "clean accuracy"
    if column == schema.TRAIN_ACC:
        return "training accuracy"
    if column.startswith(schema.ROBUST_PREFIX):
        return f"robust accuracy at epsilon {column.removeprefix(schema.ROBUST_PREFIX)}"
    if column.startswith(schema.SECONDS_PREFIX):
        return f"compute time, {column.removeprefix(schema.SECONDS_PREFIX)}"
    inversion, _, outcome = column.partition("/")
    if outcome in _INVERSION_LABELS:
        return f"{_INVERSION_LABELS[outcome]} ({inversion} inversion)"
    return column


def short_label(column: str) -> str:
    """Return the name of an outcome on an axis: ``AttAcc@1 (standard)``."""
    return label(column).replace(" inversion)", ")").replace("robust accuracy at", "robust,")


def inversions_of(columns: list[str]) -> list[str]:
    """List the inversion attacks that a unit table reports, in the order of its columns."""
    return [c.removesuffix("/att_acc_1") for c in columns if c.endswith("/att_acc_1")]


def robust_columns_of(columns: list[str]) -> list[str]:
    """List the robust-accuracy columns of a unit table by increasing epsilon."""
    found = [c for c in columns if c.startswith(schema.ROBUST_PREFIX)]
    return sorted(found, key=epsilon_of)


def epsilon_of(column: str) -> float:
    """Return epsilon (L-infinity, pixel units) of a robust-accuracy column."""
    return float(column.removeprefix(schema.ROBUST_PREFIX))


def robust_column(epsilon: float) -> str:
    """Name the robust accuracy at ``epsilon`` (pixel units): ``robust_acc/0.0025``."""
    return f"{ROBUST_PREFIX}{epsilon:g}"


def inversion_column(inversion: str, outcome: str) -> str:
    """Name an outcome of one inversion attack: ``standard/att_acc_1``."""
    return f"{inversion}/{outcome}"
