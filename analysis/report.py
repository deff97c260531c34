"""Write the report of a campaign: one self-contained page and the tables behind it."""

from __future__ import annotations

import base64
import io
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import figures, schema, tables, wording
from analysis.labels import inversions_of, label, robust_columns_of
from analysis.results import Results, analyse
from analysis.runs import Record, load

_CLASSES_SHOWN = 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Where the report stands and the two sentences that it opens with."""

    verdict: str
    page: Path
    units: Path
    classes: Path
    effects: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """Reconstructions of one arm over nearest training images, one PNG a class, as data URIs."""

    arm: str
    unit_id: str
    cells: tuple[tuple[str, str], ...]  # (class, data URI)
    note: str  # why there are none; empty otherwise


def conclude(tracking_uri: str, campaign: str, folder: Path | str) -> Report:
    """Read a campaign from the MLflow at ``tracking_uri`` and write its report.

    Raises:
        ValueError: there is no such campaign, or its record was altered.
    """
    return write_report(load(tracking_uri, campaign), folder)


def write_report(record: Record, folder: Path | str) -> Report:
    """Analyse ``record``; write the page and ``units.csv``, ``classes.csv``, ``effects.csv``.

    The same record gives the same bytes.
    """
    results = analyse(record)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    report = Report(
        verdict=" ".join(wording.verdict(results)),
        page=folder / "report.html",
        units=folder / "units.csv",
        classes=folder / "classes.csv",
        effects=folder / "effects.csv",
    )
    _write(report.units, _csv(record.units))
    _write(report.classes, _csv(record.classes))
    _write(report.effects, _csv(tables.effects_frame(results)))
    _write(report.page, render(record, results))
    return report


def render(record: Record, results: Results) -> str:
    """Return the page as HTML text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("analysis"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["minus"] = _minus
    context = {**_text(record, results), **_numbers(record, results)}
    drawn = {name: Markup(svg) for name, svg in _figures(results).items()}
    return environment.get_template("report.html.j2").render(**context, figures=drawn)


def strips(record: Record, results: Results) -> list[Strip]:
    """Choose by rule and cut up: each arm's first finished unit, by unit_id, of the first block."""
    inversion = results.outcome.partition("/")[0]
    block = record.allocation["block"].iloc[0]
    chosen: list[Strip] = []
    for arm in results.arms:
        here = results.analysed
        here = here.loc[(here["arm"] == arm) & (here["block"] == block)].sort_values("unit_id")
        if here.empty:
            note = f"no finished unit in block {block}"
            chosen.append(Strip(arm=arm, unit_id="", cells=(), note=note))
            continue
        unit_id = str(here["unit_id"].iloc[0])
        try:
            cells, note = _cells(record, unit_id, inversion), ""
        except ValueError as error:
            cells, note = (), str(error)
        chosen.append(Strip(arm=arm, unit_id=unit_id, cells=cells, note=note))
    return chosen


def _cells(record: Record, unit_id: str, inversion: str) -> tuple[tuple[str, str], ...]:
    """Cut the unit's picture into one PNG a class."""
    from PIL import Image

    classes = record.classes
    mine = classes[(classes["unit_id"] == unit_id) & (classes["inversion"] == inversion)]
    names = [str(c) for c in mine["class"]]
    with Image.open(io.BytesIO(record.picture(unit_id, inversion))) as picture:
        if not names or picture.width % len(names):
            raise ValueError(
                f"the picture of {unit_id} is {picture.width} pixels wide, which does not divide "
                f"into {len(names)} classes"
            )
        width = picture.width // len(names)
        cells: list[tuple[str, str]] = []
        for i, name in enumerate(names[:_CLASSES_SHOWN]):
            buffer = io.BytesIO()
            picture.crop((i * width, 0, (i + 1) * width, picture.height)).save(buffer, "PNG")
            encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
            cells.append((name, f"data:image/png;base64,{encoded}"))
    return tuple(cells)


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
        "primary_name": str(results.contrasts[0]),
        "arms": {
            arm: ", ".join(f"{key} {value}" for key, value in options.items())
            for arm, options in record.protocol["arms"].items()
        },
        "limits": wording.limits(results),
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
        "classes_shown": _CLASSES_SHOWN,
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
        "unit_rows": tables.units_table(record.units, results),
        "tags": record.tags,
        "versions": _versions(record.tags["versions"]),
        "assets": tables.assets_table(record.assets),
        "protocol": json.dumps(record.protocol, indent=2, ensure_ascii=False),
    }


def _figures(results: Results) -> dict[str, str]:
    """Draw what there are units for."""
    units = results.analysed
    drawn: dict[str, str] = {"outcome": "", "forest": "", "robust": "", "clean": ""}
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


def _write(path: Path, text: str) -> None:
    """Replace ``path`` at once, so that no reader sees half a file."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
