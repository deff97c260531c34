"""Checks of a table before it is analysed; each error is one sentence that names the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.schema.columns import unit_of

_LISTED = 5  # names that a message lists in full; the others are counted


class NotEstimable(ValueError):
    """The table does not hold what an estimator needs; the message says what is missing."""


def list_names(values: Any) -> str:
    """Join names for a message: the first five, then the number of the others."""
    texts = [str(v) for v in values]
    more = f" and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
    return ", ".join(texts[:_LISTED]) + more


def counted(n: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is 1: ``1 unit``, ``2 units``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def check_columns(table: pd.DataFrame, columns: list[str]) -> None:
    """Raise ValueError where the table lacks a column; the message lists the columns it has."""
    missing = [c for c in columns if c not in table]
    if missing:
        raise ValueError(
            f"the table lacks the columns {list_names(missing)}; it has "
            f"{', '.join(map(str, table))}"
        )


def check_units(units: pd.DataFrame, outcome: str) -> None:
    """Check a table with one row a unit.

    Raises:
        ValueError: a column is missing, a unit occurs twice, or a fraction is outside [0, 1].
    """
    check_columns(units, ["unit_id", "block", "arm", outcome])
    twice = units["unit_id"][units["unit_id"].duplicated()]
    if len(twice):
        raise ValueError(
            f"unit_id must be unique, one row a unit: {list_names(twice)} occurs more than once; "
            "average repeated measures first, or use analysis.inference.clustered_difference"
        )
    check_range(units, outcome)


def check_range(table: pd.DataFrame, outcome: str) -> None:
    """Raise ValueError for a fraction outside [0, 1]; other outcomes are not checked."""
    if unit_of(outcome).name != "pp":
        return
    values = np.asarray(table[outcome], dtype=float)
    outside = (values < 0) | (values > 1)
    if outside.any():
        rows = table["unit_id"][outside]
        raise ValueError(
            f"{outcome} is a fraction in [0, 1], got {values[outside][0]:g} for "
            f"{list_names(rows)}; were percentages recorded?"
        )


def outcome_values(table: pd.DataFrame, outcome: str) -> np.ndarray:
    """Return the outcome as floats, (n,).

    Raises:
        NotEstimable: a value is missing or infinite; the message names the units.
    """
    values = np.asarray(table[outcome], dtype=float)
    missing = table["unit_id"][~np.isfinite(values)]
    if len(missing):
        raise NotEstimable(f"{outcome} is missing for {list_names(missing)}")
    return values


def is_separated(units: pd.DataFrame, outcome: str) -> bool:
    """Tell whether all fractions are 0 or 1, and alike within each arm and block."""
    if unit_of(outcome).name != "pp" or not set(units[outcome]) <= {0.0, 1.0}:
        return False
    cells = units.groupby(["block", "arm"])[outcome]
    return all(len(set(values)) == 1 for _, values in cells)


def use_received_arm(units: pd.DataFrame, received: str | None) -> pd.DataFrame:
    """Replace the allocated arm by that in the column ``received``; None changes nothing.

    A comparison of received arms is not randomised, so the column must be named explicitly.
    """
    if received is None:
        return units
    check_columns(units, [received])
    return units.assign(arm=units[received])


def check_clusters(table: pd.DataFrame, cluster: str) -> None:
    """Raise ValueError for a cluster with rows in two arms or two blocks.

    Clusters are randomised as a whole, so each has one arm and one block.
    """
    for column in ("arm", "block"):
        pairs = pd.Series(table.drop_duplicates([cluster, column])[cluster])
        across = sorted(set(pairs[pairs.duplicated()]), key=str)
        if across:
            raise ValueError(
                f"{cluster} {list_names(across)} has rows in more than one {column}; a cluster "
                f"is randomised as a whole and has one {column}"
            )
