"""A report of outcomes that hardly vary: constants, ends of the range, few values, missing ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis import schema
from analysis.pipeline.primary import analyse
from analysis.report.page import render
from analysis.schema.columns import robust_columns_of
from analysis.secondary.context import analyse_secondary

KINDS = (
    "constant",
    "of the block",
    "of the arm",
    "of the cell",
    "two values",
    "one differs",
    "missing",
)


def degenerate(units, column, kind, rng):
    """Return values of a column that vary as ``kind`` says; they stay in [0, 1]."""
    values = np.full(len(units), rng.choice([0.0, 0.25, 1.0]))
    groups = {"of the block": ["block"], "of the arm": ["arm"], "of the cell": ["block", "arm"]}
    if kind in groups:
        codes = units.groupby(groups[kind]).ngroup().to_numpy()
        values = rng.choice([0.0, 0.3, 0.5, 1.0], size=codes.max() + 1)[codes]
    if kind == "two values":
        values = rng.choice([0.0, 1.0], size=len(units))
    if kind == "one differs":
        values[rng.integers(len(units))] = 0.5
    if kind == "missing":
        values = np.where(rng.random(len(units)) < 0.5, np.nan, units[column])
    return values


@pytest.mark.parametrize("seed", [17, 27, 32])
def test_outcomes_that_hardly_vary_give_a_page_and_no_warning_of_numpy(record, seed):
    rng = np.random.default_rng(seed)
    units = record.units.copy()
    outcomes = [schema.CLEAN_ACC, schema.TRAIN_ACC, *robust_columns_of(list(units.columns))]
    outcomes += ["standard/att_acc_1", "strong/att_acc_1", "standard/delta_eval"]
    for column in outcomes:
        kind = rng.choice(KINDS[: 6 if column in outcomes[:2] else None])
        units[column] = degenerate(units, column, kind, rng)
    altered = replace(record, units=units)
    results = analyse(altered)
    assert "<html" in render(altered, results, analyse_secondary(altered, results))
