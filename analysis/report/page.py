"""Render the page of a report from the results of a record."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from analysis import schema
from analysis.formatting.numbers import unit_names
from analysis.formatting.table import Table
from analysis.inference.table_checks import counted
from analysis.pipeline.consort import FlowRow
from analysis.pipeline.primary import Comparison, Results
from analysis.record.json_text import parse_json
from analysis.record.reader import Record
from analysis.report import primary_tables as tables
from analysis.report import verdict as wording
from analysis.report.image_strips import CLASSES_SHOWN, Strip, strips
from analysis.report.interim_looks import all_looks, lost_looks
from analysis.report.sections import Place, lay_out
from analysis.schema.columns import inversions_of, label, robust_columns_of
from analysis.secondary.context import SecondaryResults

UNITS_SHOWN = 500


@dataclass(frozen=True, kw_only=True)
class PageContext:
    """Every value that the template reads, by the name that it has there."""

    # header
    campaign: str
    question: str
    outcome: str
    verdict: tuple[str, str]
    error_rate: str
    interim: bool
    undecided: bool
    aa: bool  # the arms of the primary contrast are trained alike
    # flow of units
    total: FlowRow
    flow_arms: tuple[FlowRow, ...]
    flow: Table
    block_count: int
    failures: tuple[tuple[str, str, str], ...]
    arms: dict[str, str]  # recipe by arm
    # primary outcome
    level: str
    means: Table
    contrasts: Table
    methods: list[str]
    sampled: bool  # a randomisation test sampled the allocations
    notes: list[str]
    # sensitivity and secondary outcomes
    secondary: list[tuple[str, Table]]  # by contrast
    missing: tuple[str, ...]  # what could not be estimated
    # reconstructions
    strips: list[Strip]
    classes_shown: int
    # leakage and accuracy
    mechanism: str
    limits: list[str]
    slope_unit: str
    associations: Table
    slopes: Table
    robust: list[tuple[str, Table]]  # by contrast
    clean: str
    clean_contrasts: Table
    # provenance
    tags: dict[str, str]
    versions: list[tuple[str, str]]
    assets: Table
    looks: list[dict[str, Any]]
    looks_planned: bool
    lost_looks: str
    unit_rows: Table
    unit_count: int
    units_shown: int
    protocol: str
    # of all sections
    places: dict[str, Place]  # secondary sections
    figures: dict[str, str]  # SVG by name; empty where there is nothing to draw


def render(record: Record, results: Results, secondary: SecondaryResults) -> str:
    """Return the page as HTML text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("analysis.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["minus"] = _minus
    environment.globals["counted"] = counted
    context = page_context(record, results, secondary)
    return environment.get_template("report.html.j2").render(vars(context))


def page_context(record: Record, results: Results, secondary: SecondaryResults) -> PageContext:
    """Collect the values of the page."""
    return PageContext(
        **_header(record, results),
        **_flow(record, results),
        **_primary(results),
        **_leakage(results),
        **_provenance(record, results),
        secondary=[(str(c), tables.secondary_table(results, c)) for c in results.contrasts],
        missing=secondary.notes,
        strips=strips(record, results),
        classes_shown=CLASSES_SHOWN,
        places=lay_out(results, secondary),
        figures=_figures(results, secondary),
    )


def _header(record: Record, results: Results) -> dict[str, Any]:
    return {
        "campaign": record.campaign,
        "question": str(record.protocol.get("question", "")),
        "outcome": label(results.outcome),
        "verdict": wording.verdict(results),
        "error_rate": wording.error_rate(results),
        "interim": results.interim,
        "undecided": results.undecided,
        "aa": results.same_training,
    }


def _flow(record: Record, results: Results) -> dict[str, Any]:
    return {
        "total": results.flow.total,
        "flow_arms": results.flow.rows,
        "flow": tables.flow_table(results),
        "block_count": record.allocation["block"].nunique(),
        "failures": results.flow.failures,
        "arms": {arm: _recipe(options) for arm, options in record.protocol["arms"].items()},
    }


def _primary(results: Results) -> dict[str, Any]:
    on_primary = results.on_primary
    notes = [
        f"{c.contrast}, {label(results.outcome)}: {note}" for c in on_primary for note in c.notes
    ]
    tests = [c.randomisation for c in results.comparisons.values() if c.randomisation]
    return {
        "level": f"{results.level:.0%}",
        "means": tables.means_table(results, results.outcome),
        "contrasts": tables.contrasts_table(on_primary, results.level),
        "methods": list(dict.fromkeys(c.difference.method for c in on_primary if c.difference)),
        "sampled": any(not t.exact for t in tests),
        "notes": list(dict.fromkeys(notes)),
    }


def _leakage(results: Results) -> dict[str, Any]:
    mechanism = results.mechanism
    clean: list[Comparison] = []
    if schema.CLEAN_ACC in results.means:
        clean = [results.on(c, schema.CLEAN_ACC) for c in results.contrasts]
    return {
        "mechanism": wording.mechanism_sentence(results, mechanism) if mechanism else "",
        "limits": wording.limits(results),
        "slope_unit": unit_names(results.outcome)["slope"],
        "associations": tables.association_table(results),
        "slopes": tables.slope_table(results),
        "robust": [(str(c), tables.robust_table(results, c)) for c in results.contrasts],
        "clean": wording.clean_sentence(results),
        "clean_contrasts": tables.contrasts_table(clean, results.level),
    }


def _provenance(record: Record, results: Results) -> dict[str, Any]:
    versions = parse_json(record.tags[schema.VERSIONS] or "{}", dict, "the tag versions")
    return {
        "tags": record.tags,
        "versions": [(str(name), str(value)) for name, value in versions.items()],
        "assets": tables.assets_table(record.assets),
        "looks": all_looks(record, results),
        "looks_planned": bool(results.looks),
        "lost_looks": lost_looks(record),
        "unit_rows": tables.units_table(record.units.head(UNITS_SHOWN), results),
        "unit_count": len(record.units),
        "units_shown": UNITS_SHOWN,
        "protocol": json.dumps(record.protocol, indent=2, ensure_ascii=False),
    }


def _figures(results: Results, secondary: SecondaryResults) -> dict[str, str]:
    """Draw the figures for which there are units."""
    from markupsafe import Markup

    from analysis.report import figures

    units = results.analysed
    drawn: dict[str, str] = dict.fromkeys(("outcome", "forest", "robust", "clean", "classes"), "")
    if units.empty:
        return drawn
    outcome, arms = results.outcome, results.arms
    drawn["outcome"] = figures.outcome_figure(units, outcome, results.means[outcome], arms)
    forest = _forest(results)
    if any(c.difference for c in forest):
        drawn["forest"] = figures.forest_figure(forest, outcome)
    robust = [c for c in robust_columns_of(list(units.columns)) if len(units[c].unique()) > 1]
    if robust:
        drawn["robust"] = figures.scatter_figure(units, outcome, robust, arms)
    if schema.CLEAN_ACC in units:
        drawn["clean"] = figures.scatter_figure(units, outcome, [schema.CLEAN_ACC], arms)
    if secondary["class_heterogeneity"] is not None:
        drawn["classes"] = figures.class_figure(secondary["class_heterogeneity"])
    return {name: Markup(svg) for name, svg in drawn.items()}


def _forest(results: Results) -> list[Comparison]:
    """Return every contrast on the primary outcome's measure by each inversion attack."""
    measure = results.outcome.partition("/")[2]
    columns = inversions_of(list(results.analysed.columns))
    outcomes = [schema.inversion_column(i, measure) for i in columns]
    outcomes = [o for o in outcomes if o in results.means] or [results.outcome]
    return [results.on(c, o) for o in outcomes for c in results.contrasts]


def _minus(text: str) -> str:
    """Set hyphens before numbers as minus signs."""
    return re.sub(r"(?<![\w-])-(?=\d)", "\N{MINUS SIGN}", text)


def _recipe(options: dict[str, Any]) -> str:
    """Write the options of an arm, its defense first; those that are not set are left out."""
    first = {"defense": options["defense"], **options} if "defense" in options else options
    return ", ".join(f"{key} {value}" for key, value in first.items() if value is not None)
