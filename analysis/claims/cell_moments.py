"""Means of arms over blocks, and the error of any smooth function of them.

Units are allocated within blocks, so cells of arm and block are independent. Within a cell the
columns of a unit (leakage, accuracy) may depend on each other, which the covariance of the cell
holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.inference.table_checks import NotEstimable, check_units, outcome_values
from analysis.schema.columns import unit_of


@dataclass(frozen=True, kw_only=True, slots=True)
class CellMoments:
    """Means of columns in each arm, in printed units, averaged over blocks of equal weight."""

    columns: tuple[str, ...]
    means: dict[str, np.ndarray]  # by arm, (columns,)
    # by arm, for each block: covariance of the cell's mean times the squared weight, (k, k), and
    # the degrees of freedom of the cell
    cells: dict[str, list[tuple[np.ndarray, int]]]

    def mean(self, arm: str, column: str) -> float:
        """Return the mean of a column in an arm."""
        return float(self.means[arm][self.columns.index(column)])

    def error(self, gradient: dict[str, np.ndarray]) -> tuple[float, float]:
        """Return the standard error of a function of the means, and its degrees of freedom.

        The delta method: the variance is the sum of g'Vg over the cells, and the degrees of freedom
        are Satterthwaite's (1946).

        Args:
            gradient: of the function by the means of each arm, (columns,); arms that are left out
                have no influence.

        Raises:
            NotEstimable: nothing varies within the cells.
        """
        parts = [
            (float(g @ covariance @ g), df)
            for arm, g in gradient.items()
            for covariance, df in self.cells[arm]
        ]
        variance = sum(value for value, _ in parts)
        if not variance > 0:
            raise NotEstimable("nothing varies within arms, so the error is unknown")
        df = variance**2 / sum(value**2 / degrees for value, degrees in parts)
        return variance**0.5, df

    def covariance(self, one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
        """Return the covariance of two linear functions of the means."""
        return sum(
            float(one[arm] @ covariance @ other[arm])
            for arm in set(one) & set(other)
            for covariance, _ in self.cells[arm]
        )


def cell_moments(units: pd.DataFrame, columns: list[str], arms: list[str]) -> CellMoments:
    """Estimate the means of columns in each arm over the blocks that hold all arms.

    Args:
        units: one row a unit: ``unit_id``, ``block``, ``arm`` and the columns.
        columns: outcomes; their values are scaled to printed units.
        arms: that are compared.

    Raises:
        ValueError: a column is missing, a unit occurs twice, or a fraction is outside [0, 1].
        NotEstimable: a value is missing, no block holds all arms, or a cell has a single unit.
    """
    for column in columns:
        check_units(units, column)
    table = units.loc[units["arm"].isin(arms)]
    held = [set(table["block"][table["arm"] == arm]) for arm in arms]
    blocks = sorted(set.intersection(*held)) if held else []
    if not blocks:
        raise NotEstimable(f"no block holds finished units of all of {', '.join(arms)}")
    table = table.loc[table["block"].isin(blocks)]
    values = np.column_stack([unit_of(c).scale * outcome_values(table, c) for c in columns])
    rows_of = table.groupby(["arm", "block"]).indices
    means: dict[str, np.ndarray] = {}
    cells: dict[str, list[tuple[np.ndarray, int]]] = {}
    for arm in arms:
        centres, cells[arm] = [], []
        for block in blocks:
            cell = values[rows_of[arm, block]]
            n = len(cell)
            if n < 2:
                raise NotEstimable(f"{arm} has a single finished unit in {block}, 2 are needed")
            centre = cell.mean(axis=0)
            covariance = (cell - centre).T @ (cell - centre) / (n - 1)
            cells[arm].append((covariance / n / len(blocks) ** 2, n - 1))
            centres.append(centre)
        means[arm] = np.mean(centres, axis=0)
    return CellMoments(columns=tuple(columns), means=means, cells=cells)
