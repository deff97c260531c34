"""The section on bounds: one row an arm and noise scale, from the recorded columns."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.record import record_from_units
from analysis.record.reader import Record
from analysis.report import write_report
from analysis.secondary.bounds import scales_of

OPTIONS = {"outcome": "standard/att_acc_1", "arm": "masked", "against": "control"}


def record_of(**columns: float) -> Record:
    """Four units an arm; the eta of unit i is i + 1, and half of it at twice the noise."""
    rows = []
    for arm in ("control", "masked"):
        for i in range(4):
            row = {"unit_id": f"{arm}-{i}", "block": "b", "arm": arm}
            row |= {"standard/att_acc_1": 0.5 + i / 64}
            if columns:
                row |= {"bounds/eta/10": (i + 1) / 2, "bounds/eta/2": i + 1.0}
                if i < 3:
                    row["bounds/hcr_sd/2"] = 0.25 * (i + 1)  # infinite in the last unit
                if arm == "masked":
                    row |= {f"bounds/{name}": value for name, value in columns.items()}
            rows.append(row)
    return record_from_units(pd.DataFrame(rows), **OPTIONS)


def test_the_table_follows_the_noise_scale_and_says_what_is_infinite(tmp_path: Path) -> None:
    write_report(
        record_of(deleted_share=0.97, deleted_infinite_share=1.0, infinite_share=0.985),
        str(tmp_path / "report"),
    )
    text = (tmp_path / "report" / "tables" / "bounds.csv").read_text(encoding="utf-8")
    rows = text.splitlines()
    assert rows[0] == ("group,noise / RMS,eta,1/dFIL,HCR standard deviation,within the row space")
    some = '"0.5 (0.25 to 0.75, 3 of 4 finite)"'
    assert rows[1:3] == [
        f'"control, 4 units",2,2.5 (1 to 4),none finite,{some},none finite',
        '"control, 4 units",10,1.25 (0.5 to 2),none finite,none finite,none finite',
    ]
    assert rows[3].startswith(
        '"masked, 4 units; 97 % of the pixels deleted; 100 % of the deleted pixels tried have an '
        'infinite HCR bound; 98.5 % of all pixels have an infinite supremum",2,2.5 (1 to 4)'
    )
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "unbiased estimators without a prior" in page


def test_a_record_without_bounds_has_no_such_table(tmp_path: Path) -> None:
    write_report(record_of(), str(tmp_path / "report"))
    assert not (tmp_path / "report" / "tables" / "bounds.csv").exists()
    assert "unbiased estimators" not in (tmp_path / "report" / "report.html").read_text("utf-8")


def test_scales_are_ordered_as_numbers() -> None:
    columns = ["bounds/eta/10", "bounds/eta/2", "bounds/hcr_sd/0.5", "bounds/deleted_share"]
    assert scales_of(columns) == ["0.5", "2", "10"]
