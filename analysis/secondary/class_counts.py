"""Counts of the primary outcome by class, as the sections use them."""

from __future__ import annotations

import pandas as pd

from analysis.inference.table_checks import NotEstimable
from analysis.pipeline.primary import Results
from analysis.record.reader import Record

# Column of the class table that counts an outcome.
COUNTS = {
    "att_acc_1": "k_1",
    "att_acc_5": "k_5",
    "lda_att_acc_1": "lda_k_1",
    "lda_att_acc_5": "lda_k_5",
}


def with_counts(record: Record, results: Results) -> pd.DataFrame:
    """Add to the analysed units the counts of the primary outcome: ``k`` of ``n``.

    The units are returned unchanged where the outcome is not counted by class.
    """
    inversion, _, name = results.outcome.partition("/")
    units = results.analysed
    if name not in COUNTS or record.classes.empty:
        return units
    mine = record.classes.loc[record.classes["inversion"] == inversion]
    totals = mine.groupby("unit_id")[["n", COUNTS[name]]].sum()
    joined = totals.reindex(units["unit_id"])
    return units.assign(k=joined[COUNTS[name]].to_numpy(), n=joined["n"].to_numpy())


def primary_classes(record: Record, results: Results) -> tuple[pd.DataFrame, str]:
    """Return the class table of the analysed units, and its column that counts the outcome.

    Raises:
        NotEstimable: the primary outcome is not counted by class.
    """
    inversion, _, name = results.outcome.partition("/")
    if name not in COUNTS:
        raise NotEstimable(f"{results.outcome} is not recorded by class")
    classes = record.classes
    mine = classes["unit_id"].isin(results.analysed["unit_id"])
    return classes.loc[mine & (classes["inversion"] == inversion)], COUNTS[name]
