"""Bounds on estimating the image given to the target model, by arm and noise scale.

Optional key of the protocol: ``bounds``. The values are descriptive: no contrast is tested.
"""

from __future__ import annotations

from math import isfinite

from analysis import schema
from analysis.formatting.table import Table
from analysis.inference.table_checks import counted
from analysis.pipeline.primary import Results
from analysis.secondary.context import Context
from analysis.secondary.interface import Section

HEADS = {
    "eta": "eta",
    "inverse_dfil": "1/dFIL",
    "hcr_sd": "HCR standard deviation",
    "row_space_sd": "within the row space",
}
SHARES = {
    "deleted_share": "of the pixels deleted",
    "deleted_infinite_share": "of the deleted pixels tried have an infinite HCR bound",
    "infinite_share": "of all pixels have an infinite supremum",
}


def scales_of(columns: list[str]) -> list[str]:
    """List the noise scales of the columns, as they are written, in increasing order."""
    found = [c.removeprefix(schema.BOUNDS_PREFIX).partition("/")[2] for c in columns]
    return sorted({scale for scale in found if scale}, key=float)


def estimate(context: Context) -> list[str] | None:
    """Return the noise scales at which bounds are recorded; None where there are none."""
    columns = list(context.results.analysed.columns)
    return scales_of([c for c in columns if c.startswith(schema.BOUNDS_PREFIX)]) or None


def values_of(results: Results, arm: str, name: str) -> list[float]:
    """Return the recorded values of a column ``bounds/NAME`` in an arm, one for each unit."""
    units, column = results.analysed, schema.BOUNDS_PREFIX + name
    if column not in units:
        return []
    pairs = zip(units["arm"], units[column], strict=True)
    return [float(value) for received, value in pairs if received == arm and isfinite(value)]


def cell(results: Results, arm: str, name: str) -> str:
    """Write mean, smallest and largest value over the units of an arm, to three digits.

    A unit whose value is infinite has no value in the record; the others are then counted.
    """
    values = values_of(results, arm, name)
    if not values:
        return "none finite"
    mean, units = sum(values) / len(values), num_units(results, arm)
    finite = "" if len(values) == units else f", {len(values)} of {units} finite"
    return f"{mean:.3g} ({min(values):.3g} to {max(values):.3g}{finite})"


def num_units(results: Results, arm: str) -> int:
    """Count the analysed units of an arm."""
    return results.analysed["arm"].tolist().count(arm)


def heading(results: Results, arm: str) -> str:
    """Name an arm, with its mean shares of pixels."""
    parts = [f"{arm}, {counted(num_units(results, arm), 'unit')}"]
    for name, text in SHARES.items():
        values = values_of(results, arm, name)
        if values and (name != "deleted_share" or max(values) > 0):
            parts.append(f"{100 * sum(values) / len(values):.3g} % {text}")
    return "; ".join(parts)


def table(results: Results, found: list[str]) -> Table:
    """Show the values over the noise scale, arm by arm."""
    rows: list[tuple[str, ...]] = []
    for arm in results.arms:
        rows.append((heading(results, arm),))
        for scale in found:
            rows.append((scale, *(cell(results, arm, f"{name}/{scale}") for name in HEADS)))
    return Table(head=("noise / RMS", *HEADS.values()), rows=tuple(rows))


def note(results: Results, found: list[str]) -> str:
    """State what the numbers speak of and what they leave out."""
    return (
        "Mean over units (smallest to largest), in pixel units for images in [0, 1]. Secret is the "
        "image given to the trained network, not a training image. HCR and row-space values are "
        "of kept pixels. The bounds hold for unbiased estimators without a prior: an attack that "
        "knows what faces look like may do better. They describe, and test no contrast."
    )


SECTION = Section(
    name="bounds",
    place="leakage",
    estimate=estimate,
    table=table,
    title="Bounds on estimating the image given to the network",
    note=note,
)
