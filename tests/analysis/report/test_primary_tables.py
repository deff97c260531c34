"""Tables show the numbers that their heads name."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.record.reader import Record
from analysis.report import write_report


def test_the_exact_p_of_secondary_outcomes_is_that_of_their_tests(
    record: Record, tmp_path: Path
) -> None:
    write_report(record, tmp_path)
    effects = pd.read_csv(tmp_path / "effects.csv").set_index(["contrast", "outcome"])["exact_p"]
    shown = [tmp_path / "tables" / "secondary_primary.csv"]
    shown += sorted((tmp_path / "tables").glob("robust_*.csv"))
    assert len(shown) >= 2
    for path in shown:
        column = pd.read_csv(path)["exact p"].dropna()
        assert len(column)
        for text in column:
            found = [p for p in effects if abs(p - float(text)) <= 0.06 * p]
            assert found, f"{path.name}: {text} is the p of nothing"
