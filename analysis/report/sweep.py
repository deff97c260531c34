"""Report of a sweep: a table, a CSV file and a figure of leakage against clean accuracy.

A sweep is exploratory: nothing in it is randomised, its points are chosen by earlier outcomes, and
the best of many points looks better than it is. There are therefore no intervals or p-values, and
table, file and figure are marked :data:`CAUTION`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import schema
from analysis.formatting.foreign_text import visible, without_formulas
from analysis.inference.table_checks import counted
from analysis.record.json_text import parse_json
from analysis.record.store import COMPLETE, Store

CAUTION = "exploratory: not randomised"
_TABLE = ("unit_id", "status")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Recorded points of a sweep.

    Attributes:
        name: of the sweep.
        leakage: column of the outcome that is compared with clean accuracy.
        options: columns of the options that vary.
        points: unit_id, status, reason, options, outcomes and ``front`` (whether the point is on
            the Pareto front); one row for each recorded point.
    """

    name: str
    leakage: str
    options: list[str]
    points: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class SweepReport:
    """Text of a sweep for the terminal, and the files that were written."""

    text: str
    picture: Path
    table: Path


def load_sweep(tracking_uri: str, name: str) -> Sweep:
    """Read the points of a sweep from MLflow.

    Raises:
        ValueError: there is no such sweep, its record cannot be read, or a run in it is not
            marked as not randomised.
    """
    store = Store(tracking_uri)
    parent = store.parent(name, schema.KIND_SWEEP)
    content = store.read_bytes(parent.info.run_id, schema.PROTOCOL_FILE)
    settings = parse_json(content, dict, schema.PROTOCOL_FILE)
    children = store.children(parent.info.experiment_id, parent.info.run_id, schema.KIND_POINT)
    runs = [run for run in children if run.info.status in COMPLETE]
    for run in (parent, *runs):
        if run.data.tags.get(schema.RANDOMISED_TAG) != schema.NOT_RANDOMISED:
            raise ValueError(
                f"run {run.info.run_id} of {name} is not marked "
                f"{schema.RANDOMISED_TAG}={schema.NOT_RANDOMISED}, so it does not belong to a sweep"
            )
    options = list(settings["search"]["options"])
    rows: list[dict[str, Any]] = []
    for run in runs:
        tags, metrics = run.data.tags, run.data.metrics
        outcomes = {k: v for k, v in metrics.items() if not k.startswith(schema.EPOCH_PREFIX)}
        chosen = {option: float(run.data.params[option]) for option in options}
        rows.append({t: tags.get(t, "") for t in (*_TABLE, "reason")} | chosen | outcomes)
    first = [*_TABLE, *options, schema.CLEAN_ACC, settings["outcome"]]
    points = pd.DataFrame(rows, columns=None if rows else first)
    points = points.reindex(columns=[*first, *(c for c in points.columns if c not in first)])
    points = points.sort_values("unit_id", ignore_index=True)
    leakage, clean_acc = (list(points[name]) for name in (settings["outcome"], schema.CLEAN_ACC))
    points["front"] = on_front(leakage, clean_acc)
    return Sweep(name=name, leakage=settings["outcome"], options=options, points=points)


def on_front(leakage: list[float], clean_acc: list[float]) -> list[bool]:
    """Return which points are on the Pareto front of low leakage and high clean accuracy.

    A point is on it if no other is at least as good in both and better in one. A point without an
    outcome (NaN) is not on it.
    """
    pairs = list(zip(leakage, clean_acc, strict=True))
    return [
        bool(leak == leak)
        and not any(
            other <= leak and acc >= clean and (other, acc) != (leak, clean) for other, acc in pairs
        )
        for leak, clean in pairs
    ]


def sweep_text(sweep: Sweep) -> str:
    """Return the table of a sweep as text, best clean accuracy first, with the front marked."""
    points = sweep.points.sort_values(
        [schema.CLEAN_ACC, sweep.leakage, "unit_id"], ascending=[False, True, True]
    )
    width = max(len("point"), *(len(name) for name in points["unit_id"]))
    heads = [f"{name:>12}" for name in (*sweep.options, "clean acc", "leakage")]
    lines = [f"{sweep.name} ({CAUTION})", f"{'point':<{width}}{''.join(heads)}"]
    for row in points.to_dict("records"):
        chosen = "".join(f"{row[option]:>12.4g}" for option in sweep.options)
        if row["status"] == schema.FINISHED:
            outcome = f"{row[schema.CLEAN_ACC]:>12.3f}{row[sweep.leakage]:>12.3f}"
            outcome += "  Pareto" if row["front"] else ""
        else:
            outcome = f"  {row['status']}: {row['reason']}"
        lines.append(f"{visible(row['unit_id']):<{width}}{chosen}{visible(outcome)}")
    lines.append(
        f"leakage is {sweep.leakage}; each point is one training run, chosen among many: "
        "confirm it in a trial, on another split"
    )
    return "\n".join(lines)


def draw_sweep(sweep: Sweep, path: Path) -> None:
    """Draw leakage against clean accuracy and the Pareto front, as PNG."""
    from matplotlib.figure import Figure

    points = sweep.points.loc[sweep.points["status"] == schema.FINISHED]
    best = points.loc[points["front"]].sort_values([schema.CLEAN_ACC])
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.step(
        best[schema.CLEAN_ACC], best[sweep.leakage], where="pre", color="#d55e00", lw=1.2, zorder=1
    )
    for chosen, colour, name in (
        (points.loc[~points["front"]], "#0072b2", "other points"),
        (best, "#d55e00", "Pareto front"),
    ):
        marker = "s" if name == "Pareto front" else "o"
        axes.plot(
            chosen[schema.CLEAN_ACC], chosen[sweep.leakage], marker, color=colour, ms=6, label=name
        )
    reached = points[schema.CLEAN_ACC]
    middle = (reached.max() + reached.min()) / 2
    for row in best.to_dict("records"):
        left = row[schema.CLEAN_ACC] < middle  # labels stay inside the axes and off the front
        axes.annotate(
            ", ".join(f"{option} {row[option]:.3g}" for option in sweep.options),
            (row[schema.CLEAN_ACC], row[sweep.leakage]),
            textcoords="offset points",
            xytext=(7, -9) if left else (-6, 7),
            ha="left" if left else "right",
            fontsize=8,
        )
    axes.margins(0.12)
    axes.set_xlabel("clean accuracy (better to the right)")
    axes.set_ylabel(f"leakage, {sweep.leakage} (better below)")
    axes.set_title(f"{sweep.name}: {counted(len(points), 'point')} ({CAUTION})", fontsize=10)
    axes.legend(loc="upper left", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def conclude_sweep(tracking_uri: str, name: str, folder: Path) -> SweepReport:
    """Write the table and the figure of a sweep into a folder."""
    sweep = load_sweep(tracking_uri, name)
    folder.mkdir(parents=True, exist_ok=True)
    table, picture = folder / "points.csv", folder / "points.png"
    marked = sweep.points.assign(**{schema.RANDOMISED_TAG: schema.NOT_RANDOMISED})
    without_formulas(marked).to_csv(table, index=False)
    draw_sweep(sweep, picture)
    return SweepReport(text=sweep_text(sweep), picture=picture, table=table)
