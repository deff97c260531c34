"""A secondary analysis is added by one new file and one new line; the report follows."""

from __future__ import annotations

from pathlib import Path

from copies import add_line, changes, copy_packages, run_in

TOY = '''
"""Range of the primary outcome."""

from analysis.formatting.table import Table
from analysis.secondary.interface import Section


def estimate(context):
    return float(context.results.analysed[context.results.outcome].max())


def sentence(results, found):
    return f"The largest outcome is {found}."


def table(results, found):
    return Table(head=("statistic", "value"), rows=(("largest", str(found)),))


SECTION = Section(
    name="toy",
    place="accuracy",
    estimate=estimate,
    sentence=sentence,
    table=table,
    title="Toy fold",
    note="Toy note.",
)
'''
SCRIPT = """
import pandas as pd
from analysis.record import record_from_units
from analysis.report import write_report

rows = [
    {"unit_id": f"{arm}-{i}", "block": "b", "arm": arm, "standard/att_acc_1": mean + i / 64}
    for arm, mean in (("control", 0.75), ("treatment", 0.5))
    for i in range(4)
]
record = record_from_units(
    pd.DataFrame(rows), outcome="standard/att_acc_1", arm="treatment", against="control"
)
write_report(record, "report")
"""


def test_a_section_is_one_new_file_and_one_new_line(tmp_path: Path) -> None:
    copy_packages(tmp_path)
    package = tmp_path / "analysis" / "secondary"
    (package / "toy.py").write_text(TOY, encoding="utf-8")
    add_line(package / "registry.py", '"sensitivity"', '"toy",')
    assert changes(tmp_path) == (
        ["analysis/secondary/toy.py"],
        [("analysis/secondary/registry.py", "+", '"toy",')],
    )

    run_in(tmp_path, SCRIPT)
    folder = tmp_path / "report"
    csv = (folder / "tables" / "toy.csv").read_text(encoding="utf-8")
    assert csv == "statistic,value\nlargest,0.796875\n"
    assert "## toy\n\n| statistic | value |" in (folder / "tables.md").read_text(encoding="utf-8")
    page = (folder / "report.html").read_text(encoding="utf-8")
    accuracy = page[page.index("<h2>Accuracy") : page.index("<h2>Classes")]
    texts = ("The largest outcome is 0.796875.", "<summary>Toy fold", ">0.796875<", "Toy note.")
    assert all(text in accuracy for text in texts)
