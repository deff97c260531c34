"""Compare arms where each unit was measured many times, as on the classes of one target model.

Rows of one cluster share their training run, so they are no replicates: errors are clustered by
CR2 with Satterthwaite degrees of freedom, or the whole cluster is re-allocated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.inference.randomisation_test import Randomisation, randomisation_test
from analysis.inference.table_checks import (
    NotEstimable,
    check_clusters,
    check_columns,
    check_range,
    finite,
)
from analysis.schema.columns import unit_of


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusteredDifference:
    """Least-squares effect of ``arm`` over repeated measures, with CR2 errors."""

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
    r"""Regress the outcome on arm and block indicators, rows clustered by ``cluster``.

    CR2 (Bell & McCaffrey 2002): residuals of cluster g are multiplied by
    :math:`A_g = (I - H_{gg})^{-1/2}`. Degrees of freedom after Satterthwaite under a working
    model of independent errors (Pustejovsky & Tipton 2018, Sec. 2.3); with one row a cluster it is
    HC2 with the degrees of freedom of Imbens & Kolesar (2016).
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
    y = unit.scale * finite(rows, outcome)
    z = (rows["arm"] == arm).to_numpy(dtype=float)
    block = pd.factorize(rows["block"])[0]
    x = np.column_stack([z, block[:, None] == np.arange(block.max() + 1)]).astype(float)
    if np.linalg.matrix_rank(x) < x.shape[1]:
        raise NotEstimable(f"blocks do not hold both {arm} and {against}, nothing compares them")
    estimate, variance, df = cr2(y, x, pd.factorize(rows[cluster])[0])
    if not variance > 0:
        raise NotEstimable(f"{outcome} does not vary between clusters, so its error is unknown")
    se = float(np.sqrt(variance))
    half = float(stats.t.ppf((1 + level) / 2, df)) * se
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
        low=estimate - half,
        high=estimate + half,
        level=level,
        unit=unit.name,
    )


def cr2(y: np.ndarray, x: np.ndarray, cluster: np.ndarray) -> tuple[float, float, float]:
    """Return coefficient 0 of y (n,) on x (n, k), its CR2 variance and degrees of freedom.

    ``cluster`` (n,) numbers the clusters from 0. The estimate's error is a sum over clusters of
    p_g'e; the degrees of freedom are (tr B)^2 / tr(B^2) with B_gh = p_g'(I - H)_gh p_h.
    """
    inverse = np.linalg.inv(x.T @ x)
    residual = y - x @ (inverse @ (x.T @ y))
    order = np.argsort(cluster, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(cluster[order])) + 1)
    square, score, projected = np.zeros(len(members)), np.zeros(len(members)), []
    for g, rows in enumerate(members):
        values, vectors = np.linalg.eigh(np.eye(len(rows)) - x[rows] @ inverse @ x[rows].T)
        kept = values > 1e-10  # a generalised inverse where the cluster alone decides a coefficient
        root = (vectors[:, kept] / np.sqrt(values[kept])) @ vectors[:, kept].T
        weight = inverse[0] @ x[rows].T @ root
        square[g], score[g] = weight @ weight, weight @ residual[rows]
        projected.append(weight @ x[rows])
    # B = diag(square) - P inverse P', as I - H is a projection
    taken = np.array(projected)
    shared = np.einsum("gi,ij,gj->g", taken, inverse, taken)
    inner = inverse @ taken.T @ taken
    of_square = np.sum(square**2) - 2 * square @ shared + np.trace(inner @ inner)
    df = float((square.sum() - shared.sum()) ** 2 / of_square)
    return float(inverse[0] @ (x.T @ y)), float(np.sum(score**2)), df


def cluster_means(table: pd.DataFrame, outcome: str, *, cluster: str = "unit_id") -> pd.DataFrame:
    """Average the rows of each cluster: a unit table of one row a cluster."""
    check_columns(table, [cluster, "block", "arm", outcome])
    check_clusters(table, cluster)
    finite(table.assign(unit_id=table[cluster]), outcome)
    grouped = table.groupby(cluster, sort=False, as_index=False)
    means = grouped.agg({"block": "first", "arm": "first", outcome: "mean"})
    return means.assign(unit_id=means[cluster])


def cluster_randomisation_test(
    table: pd.DataFrame,
    outcome: str,
    *,
    arm: str,
    against: str,
    seed: int,
    cluster: str = "unit_id",
    level: float = 0.95,
) -> Randomisation:
    """Test by re-allocating whole clusters, which is the randomisation test of their means."""
    means = cluster_means(table, outcome, cluster=cluster)
    return randomisation_test(means, outcome, arm=arm, against=against, seed=seed, level=level)
