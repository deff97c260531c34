"""A secondary analysis is added by one new file and one new line; the report follows."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
from difflib import ndiff
from pathlib import Path

import analysis

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
import sys
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
write_report(record, sys.argv[1])
"""


def test_a_section_is_one_new_file_and_one_new_line(tmp_path: Path) -> None:
    before, after = Path(analysis.__file__).parent, tmp_path / "analysis"
    shutil.copytree(before, after, ignore=shutil.ignore_patterns("__pycache__"))
    (after / "secondary" / "toy.py").write_text(TOY, encoding="utf-8")
    registry = after / "secondary" / "registry.py"
    lines = registry.read_text(encoding="utf-8")
    registry.write_text(lines.replace("SECTIONS = (\n", 'SECTIONS = (\n    "toy",\n'), "utf-8")

    files = {p.relative_to(after) for p in after.rglob("*") if p.is_file()}
    old = {p.relative_to(before) for p in before.rglob("*") if p.is_file()}
    assert {str(p) for p in files - old} == {"secondary/toy.py"}
    changed = [p for p in files & old if not filecmp.cmp(before / p, after / p, shallow=False)]
    assert changed == [Path("secondary/registry.py")]
    difference = ndiff(lines.splitlines(), registry.read_text(encoding="utf-8").splitlines())
    assert [line for line in difference if line[0] != " "] == ['+     "toy",']

    folder = tmp_path / "report"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    subprocess.run(command, env=environment, cwd=tmp_path, check=True)
    csv = (folder / "tables" / "toy.csv").read_text(encoding="utf-8")
    assert csv == "statistic,value\nlargest,0.796875\n"
    assert "## toy\n\n| statistic | value |" in (folder / "tables.md").read_text(encoding="utf-8")
    page = (folder / "report.html").read_text(encoding="utf-8")
    accuracy = page[page.index("<h2>Accuracy") : page.index("<h2>Classes")]
    texts = ("The largest outcome is 0.796875.", "<summary>Toy fold", ">0.796875<", "Toy note.")
    assert all(text in accuracy for text in texts)
