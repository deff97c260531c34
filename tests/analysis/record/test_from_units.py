"""A record built from a table of units is analysed as one that was read from MLflow."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from analysis.pipeline import analyse
from analysis.record import Record, record_from_units


def test_it_gives_the_results_of_the_record_that_the_units_come_from(record: Record) -> None:
    keys = {"outcome": "standard/att_acc_1", "arm": "treatment", "against": "control"}
    columns = ["unit_id", "block", "arm", *record.units.select_dtypes(float).columns]
    declared = {key: record.protocol[key] for key in ("seed", "arms", "contrasts")}
    made = record_from_units(record.units[columns], **keys, **declared)
    assert made.protocol["units_per_arm"] == {"control": 4, "treatment": 4, "placebo": 4}
    results, expected = analyse(made), analyse(record)
    assert results.comparisons == expected.comparisons
    assert results.flow == expected.flow


def test_units_that_did_not_finish_keep_their_status(record: Record) -> None:
    units = record.units.copy()
    units.loc[0, ["status", "reason"]] = ["failed", "out of memory"]
    found = replace(record, units=units)
    made = record_from_units(
        units, outcome="standard/att_acc_1", arm="treatment", against="control"
    )
    assert analyse(made).flow == analyse(found).flow
    pd.testing.assert_frame_equal(made.units, found.units)


def test_it_has_no_pictures(record: Record) -> None:
    units = record.units
    made = record_from_units(
        units, outcome="standard/att_acc_1", arm="treatment", against="control"
    )
    with pytest.raises(ValueError, match="has no artifact 'pictures/standard.png': its record was"):
        made.picture(units["unit_id"][0], "standard")
