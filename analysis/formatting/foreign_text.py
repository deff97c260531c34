"""Make texts of a record fit for a terminal, for Markdown and for a spreadsheet.

A record may come from a stranger. Its texts (names, reasons, the question) are shown, and nothing
in them is acted on.
"""

from __future__ import annotations

import re

import pandas as pd

_FORMULA = ("=", "+", "-", "@")  # what a spreadsheet takes for a formula
_NUMBER = r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?%?"
_NUMBERS = re.compile(rf"{_NUMBER}( ([A-Za-z]+|{_NUMBER}))*")  # "-34.0 to -3.1 pp"


def visible(text: str) -> str:
    r"""Replace control characters, newlines among them, by escapes as in Python's source.

    >>> visible("a\nb \x1b[31mred")
    'a\\nb \\x1b[31mred'
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def csv_cell(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would take for a formula.

    Control characters become escapes, so that a cell stays in its row. Numbers keep their sign, and
    so do intervals as the report writes them.

    >>> csv_cell("=1+1"), csv_cell("-34.0 to -3.1"), csv_cell("-1+1")
    ("'=1+1", '-34.0 to -3.1', "'-1+1")
    """
    shown = visible(text)
    formula = shown.lstrip().startswith(_FORMULA)
    return f"'{shown}" if formula and not _NUMBERS.fullmatch(shown) else shown


def without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """Apply ``csv_cell`` to the texts and the column names of a table that becomes a CSV file."""
    safe = frame.copy()
    for name in frame.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes]]:
        cells = [csv_cell(cell) if isinstance(cell, str) else cell for cell in frame[name]]
        safe[name] = pd.Series(cells, index=frame.index, dtype=object)
    safe.columns = [csv_cell(str(name)) for name in frame.columns]
    return safe
