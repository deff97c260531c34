"""Texts of a record are shown in files and on the terminal, and nothing in them is acted on."""

from __future__ import annotations

import csv
import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.formatting import (
    Table,
    csv_cell,
    interval,
    number,
    table_csv,
    table_markdown,
    visible,
    without_formulas,
)

FORMULAS = ["=1+1", "+SUM(A1)", "-1+cmd|' /C calc'!A0", "@SUM(1)", " =1", "-A1 B2",
            "+1 (2)", "-2;3", "-1 =2"]  # fmt: skip


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_that_a_spreadsheet_would_compute_gets_an_apostrophe(text: str) -> None:
    assert csv_cell(text) == f"'{text}"
    table = Table(head=("arm", text), rows=((text,), ("mean", text)))
    assert f"'{text}" in next(csv.reader(io.StringIO(table_csv(table))))
    frame = pd.DataFrame({text: ["a", text], "x": [1.5, -2.0]})
    safe = without_formulas(frame)
    assert list(safe.columns) == [f"'{text}", "x"]
    assert list(safe[f"'{text}"]) == ["a", f"'{text}"]


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.integers(0, 3))
def test_numbers_and_intervals_of_the_report_stay_as_they_are(
    low: float, high: float, digits: int
) -> None:
    signed = number(low, digits, signed=True)
    half = interval(low, float("inf"), 1)
    for text in (signed, f"{signed} pp", f"{low:.10g}", interval(low, high, digits), half):
        assert csv_cell(text) == text


def test_a_table_without_formulas_gives_the_same_csv() -> None:
    frame = pd.DataFrame({"a": ["x", None], "n": [1, 2], "f": [-0.5, float("nan")],
                          "o": pd.Series([1, None], dtype=object), "b": [True, False]})  # fmt: skip
    assert without_formulas(frame).to_csv(index=False) == frame.to_csv(index=False)


@given(st.text())
def test_no_text_reaches_a_terminal_with_control_characters(text: str) -> None:
    assert visible(text).isprintable()


def test_a_cell_of_markdown_stays_one_cell_and_no_html() -> None:
    text = "a|b\n\n<script>alert(1)</script> p < 0.01"
    shown = table_markdown(Table(head=("arm", "p"), rows=((text, "1"),)))
    assert len(shown.splitlines()) == 3
    assert "<script" not in shown
    assert "p < 0.01" in shown


@given(st.text())
def test_any_text_stays_one_cell_that_is_no_formula(text: str) -> None:
    table = Table(head=("arm", "mean"), rows=((text, "1"), ("b", "2")))
    rows = list(csv.reader(io.StringIO(table_csv(table), newline="")))
    assert [len(row) for row in rows] == [2, 2, 2]
    cell = rows[1][0].lstrip()
    assert not cell.startswith(("=", "@", "\t", "\r"))
