"""Difference of two arms where each unit was measured many times, as on each class of a model.

Rows of one cluster share their training run, so they are not replicates. Standard errors are
clustered by CR2 with Satterthwaite degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.inference.ols import block_indicators, cr2
from analysis.inference.table_checks import (
    NotEstimable,
    check_clusters,
    check_columns,
    check_range,
    outcome_values,
)
from analysis.schema.columns import clip_difference, unit_of


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusteredDifference:
    """Least-squares effect of ``arm`` over repeated measures, with CR2 errors, in printed units."""

    arm: str
    against: str
    outcome: str
    clusters: int
    rows: int
    estimate: float
    se: float
    df: float  # Satterthwaite
    p: float
    low: float
    high: float
    level: float
    unit: str

    def __str__(self) -> str:
        return (
            f"{self.arm} - {self.against}: {self.estimate:+.3g} {self.unit} ({self.level:.0%} "
            f"interval {self.low:+.3g} to {self.high:+.3g}; CR2, {self.df:.1f} df, {self.rows} "
            f"rows of {self.clusters} clusters)"
        )


def clustered_difference(
    table: pd.DataFrame,
    outcome: str,
    *,
    arm: str,
    against: str,
    cluster: str = "unit_id",
    level: float = 0.95,
) -> ClusteredDifference:
    """Regress the outcome on arm and block indicators, with rows clustered by ``cluster``.

    Errors and degrees of freedom are those of :func:`analysis.inference.ols.cr2`.

    Args:
        table: one row a measure: the column ``cluster``, ``block``, ``arm`` and the outcome.
        outcome: column that is compared.
        arm, against: the two arms; the estimate is ``arm`` minus ``against``.
        cluster: column that names the unit of randomisation.
        level: of the interval.

    Raises:
        ValueError: a column is missing, a fraction is outside [0, 1], or a cluster has two arms or
            two blocks.
        NotEstimable: an arm has fewer than two clusters, an outcome is missing, no block holds both
            arms, nothing varies between clusters, or one cluster alone decides the effect.
    """
    check_columns(table, [cluster, "block", "arm", outcome])
    rows = table.assign(unit_id=table[cluster])
    rows = rows.loc[rows["arm"].isin([arm, against])]
    check_clusters(rows, cluster)
    check_range(rows, outcome)
    for name in (arm, against):
        if rows.loc[rows["arm"] == name, cluster].nunique() < 2:
            raise NotEstimable(f"{name} has fewer than 2 clusters, a comparison needs 2 or more")
    unit = unit_of(outcome)
    y = unit.scale * outcome_values(rows, outcome)
    z = (rows["arm"] == arm).to_numpy(dtype=float)
    x = np.column_stack([z, block_indicators(pd.factorize(rows["block"])[0])])
    if np.linalg.matrix_rank(x) < x.shape[1]:
        raise NotEstimable(f"no block holds both {arm} and {against}")
    estimate, variance, df = cr2(y, x, pd.factorize(rows[cluster])[0])
    if not variance > 0:
        raise NotEstimable(f"{outcome} does not vary between clusters, so its error is unknown")
    se = float(np.sqrt(variance))
    half = float(stats.t.ppf((1 + level) / 2, df)) * se
    low, high = clip_difference(estimate - half, estimate + half, outcome)
    return ClusteredDifference(
        arm=arm,
        against=against,
        outcome=outcome,
        clusters=int(rows[cluster].nunique()),
        rows=len(rows),
        estimate=estimate,
        se=se,
        df=df,
        p=float(2 * stats.t.sf(abs(estimate) / se, df)),
        low=low,
        high=high,
        level=level,
        unit=unit.name,
    )
