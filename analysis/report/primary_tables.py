"""Tables of the registered comparisons, and the rows of ``effects.csv``."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from analysis import schema
from analysis.formatting.numbers import interval, number, p_text
from analysis.formatting.table import Table
from analysis.inference.difference import ArmMean
from analysis.inference.reallocation import format_count
from analysis.pipeline.primary import Comparison, Contrast, Results
from analysis.schema.columns import inversions_of, label, robust_columns_of, unit_of

_OPEN = "not estimable"


def all_tables(results: Results) -> dict[str, Table]:
    """Return the tables of the registered comparisons that have rows, by file name."""
    found = {
        "flow": flow_table(results),
        "means": means_table(results, results.outcome),
        "contrasts": contrasts_table(results.on_primary, results.level),
        "associations": association_table(results),
        "slopes": slope_table(results),
    }
    for contrast in results.contrasts:
        found[f"secondary_{contrast.name}"] = secondary_table(results, contrast)
        found[f"robust_{contrast.name}"] = robust_table(results, contrast)
    return {name: table for name, table in found.items() if table.rows}


def flow_table(results: Results) -> Table:
    """Count units by arm and status."""
    names = ("allocated", "started", "finished", "failed", "pending", "analysed")
    rows = [(r.arm, *(str(getattr(r, n)) for n in names)) for r in results.flow.rows]
    total = tuple(str(getattr(results.flow.total, n)) for n in names)
    return Table(head=("arm", *names), rows=(*rows, ("total", *total)))


def means_table(results: Results, outcome: str) -> Table:
    """Show mean, interval, spread and range of an outcome by arm."""
    digits = unit_of(outcome).digits
    rows: list[tuple[str, ...]] = []
    for m in results.means[outcome]:
        bounds = _OPEN
        if m.low is not None and m.high is not None:
            bounds = f"{number(m.low, digits)} to {number(m.high, digits)}"
        sd = "" if m.sd is None else number(m.sd, digits)
        span = f"{number(m.minimum, digits)} to {number(m.maximum, digits)}"
        rows.append((m.arm, str(m.n), number(m.mean, digits), bounds, sd, span))
    head = ("arm", "n", f"mean ({_sign(outcome)})", f"{results.level:.0%} interval", "SD", "range")
    return Table(head=head, rows=tuple(rows))


def contrasts_table(comparisons: list[Comparison], level: float) -> Table:
    """Show the estimate, both intervals, both p and the smallest p that the design allows."""
    head = (
        "contrast",
        "difference",
        f"{level:.0%} interval (means)",
        "p (means)",
        f"{level:.0%} interval (exact)",
        "exact p",
        "smallest p",
        "allocations",
    )
    return Table(head=head, rows=tuple(_contrast_row(c) for c in comparisons))


def _contrast_row(comparison: Comparison) -> tuple[str, ...]:
    difference, test = comparison.difference, comparison.randomisation
    digits, name = unit_of(comparison.outcome).digits, str(comparison.contrast)
    means, p, estimate = _OPEN, _OPEN, _OPEN
    if difference is not None:
        estimate = f"{number(difference.estimate, digits, signed=True)} {difference.unit}"
        means, p = interval(difference.low, difference.high, digits), p_text(difference.p)
    if test is None:
        return (name, estimate, means, p, _OPEN, _OPEN, _OPEN, _OPEN)
    if difference is None:
        estimate = f"{number(test.statistic, digits, signed=True)} {test.unit}"
    return (
        name,
        estimate,
        means,
        p,
        interval(test.low, test.high, digits),
        p_text(test.p),
        p_text(test.smallest_p),
        format_count(test.allocations) + ("" if test.exact else ", sampled"),
    )


def secondary_table(results: Results, contrast: Contrast) -> Table:
    """Compare the two arms of a contrast on each secondary outcome, unadjusted."""
    rows: list[tuple[str, ...]] = []
    for inversion in inversions_of(list(results.analysed.columns)):
        outcomes = (*schema.INVERSION_OUTCOMES, *schema.STUDENT_OUTCOMES)
        names = [schema.inversion_column(inversion, n) for n in outcomes]
        found = [o for o in names if o in results.means and o != results.outcome]
        inner = [_difference_row(results, contrast, o) for o in found]
        suffix = f" ({inversion} inversion)"
        rows.append((f"{inversion} inversion",))
        rows += [(first.removesuffix(suffix), *rest) for first, *rest in inner]
    accuracies = [o for o in (schema.CLEAN_ACC, schema.TRAIN_ACC) if o in results.means]
    rows.append(("target model",))
    rows += [_difference_row(results, contrast, o) for o in accuracies]
    return Table(head=_difference_head(contrast), rows=tuple(rows))


def robust_table(results: Results, contrast: Contrast) -> Table:
    """Compare robust accuracy of the two arms of a contrast at each epsilon."""
    columns = robust_columns_of(list(results.means))
    rows = tuple(_difference_row(results, contrast, o) for o in columns)
    return Table(head=_difference_head(contrast), rows=rows)


def _difference_head(contrast: Contrast) -> tuple[str, ...]:
    return ("outcome", contrast.arm, contrast.against, "difference", "interval", "exact p")


def _difference_row(results: Results, contrast: Contrast, outcome: str) -> tuple[str, ...]:
    arm_mean = {m.arm: m for m in results.means[outcome]}
    _, difference, interval_of_means, _, _, p, *_ = _contrast_row(results.on(contrast, outcome))
    means = (_mean(arm_mean.get(arm), outcome) for arm in (contrast.arm, contrast.against))
    return (label(outcome), *means, difference, interval_of_means, p)


def association_table(results: Results) -> Table:
    """Show correlations of leakage with each accuracy, over all units and within arms."""
    head = ("accuracy", "r, all units", "r, within arms", *(f"r, {a}" for a in results.arms))
    rows = [
        (
            label(a.accuracy),
            *(
                "constant" if r is None else number(r, 2, signed=True)
                for r in (a.pooled, a.within, *(a.by_arm.get(arm) for arm in results.arms))
            ),
        )
        for a in results.associations
    ]
    return Table(head=head, rows=tuple(rows))


def slope_table(results: Results) -> Table:
    """Show simple slopes of leakage and the variance that each accuracy explains."""
    head = ("accuracy", "slope (HC2; HC3 SE)", "R2 alone", "R2 with clean accuracy")
    rows: list[tuple[str, ...]] = []
    for a in results.associations:
        e = results.explained.get(a.accuracy)
        slope = "constant"
        if a.slope is not None:
            errors = [_OPEN if s is None else number(s, 2) for s in (a.se_hc2, a.se_hc3)]
            slope = f"{number(a.slope, 2, signed=True)} ({errors[0]}; {errors[1]})"
        alone, both = ("", "") if e is None else (number(e.robust, 2), number(e.both, 2))
        if a.accuracy == schema.CLEAN_ACC and results.explained:
            alone, both = number(next(iter(results.explained.values())).clean, 2), ""
        rows.append((label(a.accuracy), slope, alone, both))
    return Table(head=head, rows=tuple(rows))


def assets_table(assets: list[dict[str, Any]]) -> Table:
    """List the evaluation models and priors with every recorded key."""
    head = tuple(dict.fromkeys(key for asset in assets for key in asset))
    rows = [tuple(_plain(asset.get(key, "")) for key in head) for asset in assets]
    return Table(head=tuple(key.replace("_", " ") for key in head), rows=tuple(rows))


def units_table(units: pd.DataFrame, results: Results) -> Table:
    """List every allocated unit with its primary outcome and accuracies, in allocation order."""
    columns = [results.outcome, schema.CLEAN_ACC, *robust_columns_of(list(units.columns))]
    found = [c for c in columns if c in units]
    head = ("unit", "block", "arm", "status", *(f"{label(c)} ({_sign(c)})" for c in found))
    rows = [
        (
            *(str(row[name]) for name in ("unit_id", "block", "arm", "status")),
            *(_value(float(row[c]), c) for c in found),
        )
        for row in units.to_dict("records")
    ]
    return Table(head=head, rows=tuple(rows))


def effects_frame(results: Results) -> pd.DataFrame:
    """Return one row for each contrast and outcome, in the printed units."""
    return pd.DataFrame([_effect_row(results, c) for c in results.comparisons.values()])


def _effect_row(results: Results, comparison: Comparison) -> dict[str, Any]:
    contrast, outcome = comparison.contrast, comparison.outcome
    d, r, b = comparison.difference, comparison.randomisation, comparison.beta
    primary = contrast == results.contrasts[0] and outcome == results.outcome
    return {
        "contrast": contrast.name,
        "arm": contrast.arm,
        "against": contrast.against,
        "outcome": outcome,
        "role": "primary" if primary else "secondary",
        "unit": unit_of(outcome).name,
        "n_arm": d and d.n_arm,
        "n_against": d and d.n_against,
        "estimate": d.estimate if d else r and r.statistic,
        "se": d and d.se,
        "df": d and d.df,
        "low": d and d.low,
        "high": d and d.high,
        "p": d and d.p,
        "method": d and d.method,
        "exact_p": r and r.p,
        "exact_low": r and r.low,
        "exact_high": r and r.high,
        "allocations": r and r.allocations,
        "smallest_p": r and r.smallest_p,
        "beta_coefficient": b and b.coefficient,
        "beta_se": b and b.se,
        "beta_p": b and b.p,
        "beta_odds_ratio": b and b.odds_ratio,
        "beta_phi": b and b.phi,
        "beta_estimate": b and b.estimate,
        "beta_small_sample_low": b and b.small_sample_low,
        "beta_small_sample_high": b and b.small_sample_high,
        "notes": "; ".join(comparison.notes),
    }


def _sign(outcome: str) -> str:
    unit = unit_of(outcome)
    return "%" if unit.name == "pp" else unit.name


def _value(value: float, outcome: str) -> str:
    unit = unit_of(outcome)
    return "" if value != value else number(unit.scale * value, unit.digits)


def _mean(mean: ArmMean | None, outcome: str) -> str:
    if mean is None:
        return _OPEN
    text = number(mean.mean, unit_of(outcome).digits)
    return f"{text}%" if mean.unit == "pp" else text


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
