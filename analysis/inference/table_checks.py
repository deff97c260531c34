"""Refuse a bad table at the door, with one sentence that says what is wrong with which row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.schema.columns import unit_of

_NAMED = 5  # rows that a message names before it counts


class NotEstimable(ValueError):
    """The table does not hold what the estimator needs; the message says what is missing."""


def named(values: Any) -> str:
    """List names for a message: the first few, then how many more."""
    texts = [str(v) for v in values]
    more = f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return ", ".join(texts[:_NAMED]) + more


def check_columns(table: pd.DataFrame, columns: list[str]) -> None:
    """Refuse a table that lacks a column; the message lists those it has."""
    missing = [c for c in columns if c not in table]
    if missing:
        raise ValueError(
            f"the table lacks the columns {named(missing)}; it has {', '.join(map(str, table))}"
        )


def check_units(units: pd.DataFrame, outcome: str) -> None:
    """Refuse a unit table with a missing column, a unit twice, or a fraction outside [0, 1]."""
    check_columns(units, ["unit_id", "block", "arm", outcome])
    twice = units["unit_id"][units["unit_id"].duplicated()]
    if len(twice):
        raise ValueError(
            f"unit_id must be unique, one row a unit: {named(twice)} occurs more than once; "
            "average repeated measures first, or use analysis.inference.clustered"
        )
    check_range(units, outcome)


def check_range(table: pd.DataFrame, outcome: str) -> None:
    """Refuse a fraction outside [0, 1]; distances and durations are not bounded here."""
    if unit_of(outcome).name != "pp":
        return
    values = np.asarray(table[outcome], dtype=float)
    outside = (values < 0) | (values > 1)
    if outside.any():
        rows = table["unit_id"][outside]
        raise ValueError(
            f"{outcome} is a fraction in [0, 1], got {values[outside][0]:g} for {named(rows)}; "
            "were percentages recorded?"
        )


def finite(table: pd.DataFrame, outcome: str) -> np.ndarray:
    """Return the outcome as floats, (n,); name the units where it is missing."""
    values = np.asarray(table[outcome], dtype=float)
    missing = table["unit_id"][~np.isfinite(values)]
    if len(missing):
        raise NotEstimable(f"{outcome} is missing for {named(missing)}")
    return values


def as_received(units: pd.DataFrame, received: str | None) -> pd.DataFrame:
    """Put the arm that each unit received in the place of its allocated arm; None changes nothing.

    Such a comparison is no longer randomised, so a column must be named to get it.
    """
    if received is None:
        return units
    check_columns(units, [received])
    return units.assign(arm=units[received])


def check_clusters(table: pd.DataFrame, cluster: str) -> None:
    """Refuse clusters that lie in two arms or two blocks: the cluster is what was randomised."""
    for column in ("arm", "block"):
        pairs = pd.Series(table.drop_duplicates([cluster, column])[cluster])
        across = sorted(set(pairs[pairs.duplicated()]), key=str)
        if across:
            raise ValueError(
                f"{cluster} {named(across)} lies in more than one {column}; a cluster is "
                f"randomised as a whole and has one {column}"
            )
