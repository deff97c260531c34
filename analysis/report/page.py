"""Write the report of a campaign: one self-contained page and the tables behind it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import schema
from analysis.pipeline.primary import Results, analyse
from analysis.pipeline.secondary import Examination, examine
from analysis.record.reader import Record, load_record
from analysis.record.store import Store
from analysis.report import figures
from analysis.report import primary_tables as tables
from analysis.report import secondary_tables as detail
from analysis.report import secondary_text as findings
from analysis.report import verdict as wording
from analysis.report.image_strips import CLASSES_SHOWN, strips
from analysis.report.looks import log_report, looks_lost, looks_taken, note_look
from analysis.report.table import Table, document, table_csv, write
from analysis.schema.columns import inversions_of, label, robust_columns_of

_UNITS_SHOWN = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Where the report stands and the two sentences that it opens with."""

    verdict: str
    page: Path
    units: Path
    classes: Path
    effects: Path
    markdown: Path
    tables: Path  # folder of one CSV a table

    @property
    def files(self) -> list[Path]:
        """The files beside the page."""
        beside = [self.units, self.classes, self.effects, self.markdown]
        return [*beside, *sorted(self.tables.glob("*.csv"))]


def conclude(tracking_uri: str, campaign: str, folder: Path | str, *, log: bool = True) -> Report:
    """Read a campaign from the MLflow at ``tracking_uri`` and write its report.

    ``log`` notes the look in the tags of the campaign's run, before a page is written, and stores
    the report as artifacts of that run.

    Raises:
        ValueError: there is no such campaign, or its record was altered or takes no writing.
    """
    store = Store(tracking_uri)
    record = load_record(store, campaign)
    results = analyse(record)
    exam = examine(record, results)
    if log:
        note_look(store, record, results)
    report = _write_all(record, results, exam, Path(folder))
    if log:
        log_report(store, record, [report.page, *report.files])
    return report


def write_report(record: Record, folder: Path | str) -> Report:
    """Analyse ``record`` and write the page, ``tables.md`` and the tables as CSV.

    The same record gives the same bytes.
    """
    results = analyse(record)
    return _write_all(record, results, examine(record, results), Path(folder))


def _write_all(record: Record, results: Results, exam: Examination, folder: Path) -> Report:
    report = Report(
        verdict=" ".join(wording.verdict(results)),
        page=folder / "report.html",
        units=folder / "units.csv",
        classes=folder / "classes.csv",
        effects=folder / "effects.csv",
        markdown=folder / "tables.md",
        tables=folder / "tables",
    )
    report.tables.mkdir(parents=True, exist_ok=True)
    named = {**_main_tables(results), **detail.all_tables(results, exam)}
    write(report.units, _csv(record.units))
    write(report.classes, _csv(record.classes))
    write(report.effects, _csv(tables.effects_frame(results)))
    write(report.markdown, document(record.campaign, report.verdict, named))
    for name, table in named.items():
        write(report.tables / f"{name}.csv", table_csv(table))
    write(report.page, render(record, results, exam))
    return report


def _main_tables(results: Results) -> dict[str, Table]:
    """Name the tables of the registered comparisons that have rows."""
    found = {
        "flow": tables.flow_table(results),
        "means": tables.means_table(results, results.outcome),
        "contrasts": tables.contrasts_table(_on_primary(results), results.level),
        "beta": tables.beta_table(_on_primary(results), results.level),
        "associations": tables.association_table(results),
        "slopes": tables.slope_table(results),
    }
    for contrast in results.contrasts:
        found[f"secondary_{contrast.name}"] = tables.secondary_table(results, contrast)
        found[f"robust_{contrast.name}"] = tables.robust_table(results, contrast)
    return {name: table for name, table in found.items() if table.rows}


def render(record: Record, results: Results, exam: Examination) -> str:
    """Return the page as HTML text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("analysis.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["minus"] = _minus
    context = {
        **_text(record, results),
        **_numbers(record, results),
        **_examined(record, results, exam),
    }
    drawn = {name: Markup(svg) for name, svg in _figures(results, exam).items()}
    return environment.get_template("report.html.j2").render(**context, figures=drawn)


def _text(record: Record, results: Results) -> dict[str, Any]:
    """Collect the sentences of the page."""
    first, second = wording.verdict(results)
    tests = [c.randomisation for c in results.comparisons.values() if c.randomisation]
    return {
        "campaign": record.campaign,
        "question": str(record.protocol.get("question", "")),
        "verdict": (first, second),
        "interim": results.interim,
        "aa": results.same_training,
        "outcome": label(results.outcome),
        "level": f"{results.level:.0%}",
        "reference": results.contrasts[0].against,
        "arms": {
            arm: ", ".join(f"{key} {value}" for key, value in options.items())
            for arm, options in record.protocol["arms"].items()
        },
        "limits": wording.limits(results),
        "measured": wording.measured(results.outcome),
        "mechanism": results.mechanism and wording.mechanism_sentence(results, results.mechanism),
        "clean": wording.clean_sentence(results),
        "methods": list(dict.fromkeys(_methods(results))),
        "sampled": any(not t.exact for t in tests),
        "notes": list(
            dict.fromkeys(
                f"{c.contrast}, {label(results.outcome)}: {note}"
                for c in _on_primary(results)
                for note in c.notes
            )
        ),
        "classes_shown": CLASSES_SHOWN,
    }


def _numbers(record: Record, results: Results) -> dict[str, Any]:
    """Collect the tables, pictures and provenance of the page."""
    on_primary = _on_primary(results)
    clean = [
        results.on(c, schema.CLEAN_ACC)
        for c in results.contrasts
        if schema.CLEAN_ACC in results.means
    ]
    return {
        "flow": tables.flow_table(results),
        "failures": results.flow.failures,
        "means": tables.means_table(results, results.outcome),
        "contrasts": tables.contrasts_table(on_primary, results.level),
        "beta": tables.beta_table(on_primary, results.level),
        "clean_contrasts": tables.contrasts_table(clean, results.level),
        "secondary": [(str(c), tables.secondary_table(results, c)) for c in results.contrasts],
        "robust": [(str(c), tables.robust_table(results, c)) for c in results.contrasts],
        "associations": tables.association_table(results),
        "slopes": tables.slope_table(results),
        "strips": strips(record, results),
        "unit_rows": tables.units_table(record.units.head(_UNITS_SHOWN), results),
        "unit_count": len(record.units),
        "flow_arms": results.flow.rows,
        "total": results.flow.total,
        "block_count": record.allocation["block"].nunique(),
        "tags": record.tags,
        "versions": _versions(record.tags["versions"]),
        "assets": tables.assets_table(record.assets),
        "protocol": json.dumps(record.protocol, indent=2, ensure_ascii=False),
    }


def _examined(record: Record, results: Results, exam: Examination) -> dict[str, Any]:
    """Collect the sentences and tables of the secondary analyses."""
    return {
        "detail": detail.all_tables(results, exam),
        "sensitivity": findings.sensitivity_sentence(results, exam),
        "diagnostics": detail.diagnostics(results),
        "attrition": findings.attrition_sentence(results, exam),
        "margins": findings.margin_sentences(results, exam),
        "matched": findings.matched_sentence(results, exam),
        "instruments": findings.mechanism_sentences(results, exam),
        "model": findings.model_sentence(exam),
        "families": [f"{name}: {model}" for name, model in exam.families.items()],
        "dose": str(exam.dose) if exam.dose else "",
        "classes": findings.classes_sentence(results, exam),
        "missing": list(exam.notes),
        "mediation_assumes": next(iter(exam.mediation.values())).assumes if exam.mediation else (),
        "looks": looks_taken(record, results),
        "looks_lost": looks_lost(record),
        "undecided": results.undecided,
    }


def _figures(results: Results, exam: Examination) -> dict[str, str]:
    """Draw what there are units for."""
    units = results.analysed
    drawn: dict[str, str] = dict.fromkeys(("outcome", "forest", "robust", "clean", "classes"), "")
    if units.empty:
        return drawn
    outcome, arms = results.outcome, results.arms
    drawn["outcome"] = figures.outcome_figure(units, outcome, results.means[outcome], arms)
    main = outcome.partition("/")[2]
    same = [
        schema.inversion_column(i, main)
        for i in inversions_of(list(units.columns))
        if schema.inversion_column(i, main) in results.means
    ]
    forest = [results.on(c, o) for o in (same or [outcome]) for c in results.contrasts]
    if any(c.difference for c in forest):
        drawn["forest"] = figures.forest_figure(forest, outcome)
    robust = [c for c in robust_columns_of(list(units.columns)) if len(units[c].unique()) > 1]
    if robust:
        drawn["robust"] = figures.scatter_figure(units, outcome, robust, arms)
    if schema.CLEAN_ACC in units:
        drawn["clean"] = figures.scatter_figure(units, outcome, [schema.CLEAN_ACC], arms)
    if exam.heterogeneity is not None:
        drawn["classes"] = figures.class_figure(exam.heterogeneity)
    return drawn


def _on_primary(results: Results) -> list[Any]:
    return [results.on(c, results.outcome) for c in results.contrasts]


def _methods(results: Results) -> list[str]:
    return [c.difference.method for c in _on_primary(results) if c.difference]


def _versions(tag: str) -> list[tuple[str, str]]:
    found = json.loads(tag) if tag else {}
    return [(str(name), str(value)) for name, value in found.items()]


def _minus(text: str) -> str:
    """Set hyphens before numbers as minus signs."""
    return re.sub(r"(?<![\w-])-(?=\d)", "\N{MINUS SIGN}", text)


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, float_format="%.10g", lineterminator="\n")
