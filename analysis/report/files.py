"""Write the report of a campaign: one self-contained page and the tables behind it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.formatting.foreign_text import visible, without_formulas
from analysis.formatting.table import Table, table_csv, tables_document
from analysis.pipeline.primary import Results, analyse
from analysis.record.reader import Record, load_record
from analysis.record.store import Store
from analysis.report import primary_tables
from analysis.report.interim_looks import log_report, record_look, record_verdicts
from analysis.report.page import render
from analysis.report.sections import section_tables
from analysis.report.verdict import verdict
from analysis.secondary.context import SecondaryResults, analyse_secondary


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Files of a report, and the two sentences that answer the question of the protocol."""

    verdict: str
    page: Path
    units: Path
    classes: Path
    effects: Path
    markdown: Path
    tables: Path  # folder with one CSV file a table

    @property
    def files(self) -> list[Path]:
        """All files except the page."""
        beside = [self.units, self.classes, self.effects, self.markdown]
        return [*beside, *sorted(self.tables.glob("*.csv"))]


def conclude(tracking_uri: str, campaign: str, folder: Path | str, *, log: bool = True) -> Report:
    """Read a campaign from MLflow and write its report.

    Args:
        tracking_uri: address of the MLflow store.
        campaign: name of the MLflow experiment.
        folder: of the report; created if missing.
        log: record the look in the tags of the campaign's run before the page is written, and
            store the report as artifacts of that run.

    Raises:
        ValueError: there is no such campaign, its record was altered, or it cannot be written.
    """
    store = Store(tracking_uri)
    record = load_record(store, campaign)
    results = analyse(record)
    secondary = analyse_secondary(record, results)
    if log:
        record_look(store, record, results)
        record_verdicts(store, record, results, secondary["claims"])
    report = _write_all(record, results, secondary, Path(folder))
    if log:
        log_report(store, record, [report.page, *report.files])
    return report


def write_report(record: Record, folder: Path | str) -> Report:
    """Analyse a record and write the page, ``tables.md`` and the tables as CSV.

    The same record gives the same bytes.
    """
    results = analyse(record)
    return _write_all(record, results, analyse_secondary(record, results), Path(folder))


def one_line(text: str) -> str:
    """Write a sentence or an error on one line, without what a terminal acts on."""
    return visible(" ".join(text.split()))


def write(path: Path, text: str) -> None:
    """Write a text file at once: a reader sees the old content or the new, never a part."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def _write_all(
    record: Record, results: Results, secondary: SecondaryResults, folder: Path
) -> Report:
    report = Report(
        verdict=" ".join(verdict(results)),
        page=folder / "report.html",
        units=folder / "units.csv",
        classes=folder / "classes.csv",
        effects=folder / "effects.csv",
        markdown=folder / "tables.md",
        tables=folder / "tables",
    )
    report.tables.mkdir(parents=True, exist_ok=True)
    tables: dict[str, Table] = {
        **primary_tables.all_tables(results),
        **section_tables(results, secondary),
    }
    write(report.units, _csv(record.units))
    write(report.classes, _csv(record.classes))
    write(report.effects, _csv(primary_tables.effects_frame(results)))
    write(report.markdown, tables_document(record.campaign, report.verdict, tables))
    for name, table in tables.items():
        write(report.tables / f"{name}.csv", table_csv(table))
    write(report.page, render(record, results, secondary))
    return report


def _csv(table: pd.DataFrame) -> str:
    safe = without_formulas(table)
    return safe.to_csv(index=False, float_format="%.10g", lineterminator="\n")
