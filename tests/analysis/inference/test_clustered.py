"""Repeated measures: repeating a row changes nothing, and bad clusters are refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from analysis.inference.clustered import clustered_difference
from analysis.inference.difference import difference_in_means
from analysis.inference.table_checks import NotEstimable

OUTCOME = "standard/att_acc_1"
PAIR = {"arm": "a", "against": "b"}
MakeTable = Callable[..., pd.DataFrame]


def repeated(units: pd.DataFrame, times: int, noise: float = 0.0, seed: int = 0) -> pd.DataFrame:
    rows = units.loc[units.index.repeat(times)].reset_index(drop=True)
    shake = noise * np.random.default_rng(seed).uniform(-1, 1, len(rows))
    return rows.assign(**{OUTCOME: (rows[OUTCOME] + shake).clip(0, 1)})


def test_repeating_every_row_changes_neither_estimate_nor_error(table: MakeTable) -> None:
    units = table(5, 1)
    once = clustered_difference(units, OUTCOME, **PAIR)
    many = clustered_difference(repeated(units, 40), OUTCOME, **PAIR)
    welch = difference_in_means(units, OUTCOME, **PAIR)
    assert (many.estimate, many.se, many.df) == pytest.approx((once.estimate, once.se, once.df))
    assert (many.estimate, many.se) == pytest.approx((welch.estimate, welch.se))
    assert (many.clusters, many.rows) == (10, 400)
    assert "400 rows of 10 clusters" in str(many)


def test_clusters_across_arms_or_blocks_are_refused_by_name(table: MakeTable) -> None:
    rows = repeated(table(3, 1), 3)
    rows.loc[0, "arm"] = "b"
    with pytest.raises(ValueError, match="unit_id b0/a0 has rows in more than one arm"):
        clustered_difference(rows, OUTCOME, **PAIR)
    rows = repeated(table(3, 1), 3)
    rows.loc[0, "block"] = "elsewhere"
    with pytest.raises(ValueError, match="has rows in more than one block"):
        clustered_difference(rows, OUTCOME, **PAIR)


def test_one_cluster_in_an_arm_is_not_estimable(table: MakeTable) -> None:
    rows = repeated(table(1, 1), 5, noise=0.01)
    with pytest.raises(NotEstimable, match="a has fewer than 2 clusters"):
        clustered_difference(rows, OUTCOME, **PAIR)


def test_interval_covers_with_few_clusters() -> None:
    """Four runs an arm, thirty classes each, strong dependence within runs: 95 % stays 95 %."""
    rng = np.random.default_rng(5)
    cluster = np.repeat(np.arange(8), 30)
    arm = np.where(cluster < 4, "a", "b")
    inside = 0
    for _ in range(400):
        y = 0.5 + 0.05 * rng.normal(size=8)[cluster] + 0.02 * rng.normal(size=240)
        frame = pd.DataFrame({"unit_id": cluster, "block": "x", "arm": arm, OUTCOME: y})
        found = clustered_difference(frame, OUTCOME, **PAIR)
        inside += found.low <= 0 <= found.high
    assert 0.92 < inside / 400 < 0.985
