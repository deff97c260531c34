"""Text of numbers and tables, as the report prints them.

>>> from analysis.formatting import Table, interval, number, p_text, table_markdown
>>> number(-0.04, 1, signed=True), interval(-34.02, float("inf"), 1), p_text(0.00041)
('0.0', '-34.0 to unbounded', '0.00041')
>>> table = Table(head=("arm", "mean"), rows=(("control", "91.0"), ("treatment", "60.7")))
>>> print(table_markdown(table))
| arm | mean |
| --- | ---: |
| control | 91.0 |
| treatment | 60.7 |
<BLANKLINE>
"""

from analysis.formatting.foreign_text import csv_cell, visible, without_formulas
from analysis.formatting.numbers import interval, needed_p, number, p_relation, p_text
from analysis.formatting.table import Table, table_csv, table_markdown, tables_document

__all__ = [
    "Table",
    "csv_cell",
    "interval",
    "needed_p",
    "number",
    "p_relation",
    "p_text",
    "table_csv",
    "table_markdown",
    "tables_document",
    "visible",
    "without_formulas",
]
