"""Relation of the primary outcome to each accuracy, over the units for which it was measured."""

from __future__ import annotations

import pandas as pd

from analysis import schema
from analysis.regression.correlation import Association, Explained, associate, explained_variance
from analysis.schema.columns import robust_columns_of


def associations(units: pd.DataFrame, outcome: str) -> tuple[Association, ...]:
    """Correlate the outcome with robust accuracy at each epsilon and with clean accuracy."""
    columns = [*robust_columns_of(list(units.columns)), schema.CLEAN_ACC]
    measured = {c: units.dropna(subset=[c]) for c in columns if c in units}
    return tuple(associate(table, outcome, c) for c, table in measured.items() if len(table))


def explained(units: pd.DataFrame, outcome: str) -> dict[str, Explained]:
    """Explain the outcome at each epsilon where robust accuracy varies over 5 units or more."""
    if schema.CLEAN_ACC not in units:
        return {}
    found: dict[str, Explained] = {}
    for c in robust_columns_of(list(units.columns)):
        table = units.dropna(subset=[c, schema.CLEAN_ACC])
        if len(table) >= 5 and min(len(set(table[name])) for name in (outcome, c)) > 1:
            found[c] = explained_variance(table, outcome, c, schema.CLEAN_ACC)
    return found
