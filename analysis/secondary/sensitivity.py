"""Primary effect by other methods, to see whether the choice of method matters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.formatting.numbers import interval, model_p_text, number, p_text
from analysis.formatting.table import Table
from analysis.inference.attrition import Attrition
from analysis.inference.clustered import ClusteredDifference, clustered_difference
from analysis.inference.group_sequential import stagewise_interval
from analysis.inference.randomisation import Randomisation, randomisation_test
from analysis.pipeline.primary import Results
from analysis.regression.fractions import (
    ModelEffect,
    beta_binomial_effect,
    fractional_logit_effect,
    squeezed_effect,
)
from analysis.schema.columns import clip_difference, unit_of
from analysis.secondary.class_counts import primary_classes, with_counts
from analysis.secondary.context import Context
from analysis.secondary.interface import Section


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Other estimates of the primary effect; one that the data do not allow is None or missing."""

    studentised: Randomisation | None
    models: tuple[ModelEffect, ...]
    clustered: ClusteredDifference | None  # over classes of units
    attrition: Attrition | None


def estimate(context: Context) -> Sensitivity:
    """Estimate the primary effect by every other method that the data allow."""
    results = context.results
    studentised = context.attempt(
        "studentised test",
        randomisation_test,
        results.analysed,
        results.outcome,
        **context.pair,
        seed=context.protocol["seed"],
        level=results.level,
        studentised=True,
    )
    return Sensitivity(
        studentised=studentised,
        models=_models(context),
        clustered=context.attempt("CR2 over classes", _clustered, context),
        attrition=context.result("attrition"),
    )


def _models(context: Context) -> tuple[ModelEffect, ...]:
    """Fit the models that take outcomes of 0 and 1, where the outcome is a fraction."""
    outcome, level, pair = context.results.outcome, context.results.level, context.pair
    units = with_counts(context.record, context.results)
    if unit_of(outcome).name != "pp" or units.empty:
        return ()
    attempt, found = context.attempt, []
    counted = "k" in units and not np.isnan(np.asarray(units["k"], dtype=float)).any()
    if counted:
        found.append(
            attempt("beta-binomial", beta_binomial_effect, units, "k", "n", **pair, level=level)
        )
    found.append(
        attempt("fractional logit", fractional_logit_effect, units, outcome, **pair, level=level)
    )
    constants = [float(np.count_nonzero(units["arm"].isin(list(pair.values()))))]
    if counted:
        constants.append(float(np.max(np.asarray(units["n"], dtype=float))))
    for constant in constants:
        options = {"constant": constant, "level": level}
        found.append(
            attempt(f"squeeze N = {constant:g}", squeezed_effect, units, outcome, **pair, **options)
        )
    return tuple(f for f in found if f is not None)


def _clustered(context: Context) -> ClusteredDifference:
    rows, hits = primary_classes(context.record, context.results)
    rates = rows.assign(rate=rows[hits] / rows["n"])
    return clustered_difference(rates, "rate", **context.pair, level=context.results.level)


def sentence(results: Results, found: Sensitivity) -> str:
    """State how many other methods exclude zero and agree with the registered estimate."""
    primary = results.primary.difference
    if primary is None:
        return "The primary effect is not estimable, so no other method was applied."
    bounds = [(m.low, m.high) for m in found.models]
    for other in (found.studentised, found.clustered):
        if other is not None:
            bounds.append((other.low, other.high))
    if results.primary.beta is not None:
        beta = results.primary.beta
        bounds.append((beta.small_sample_low, beta.small_sample_high))
    if not bounds:
        return "No other method could be fitted."
    digits = unit_of(results.outcome).digits
    excluding = sum(1 for low, high in bounds if low > 0 or high < 0)
    containing = [low <= primary.estimate <= high for low, high in bounds]
    zero = f"{excluding} exclude a zero effect at the {results.level:.0%} level and "
    registered = f"{number(primary.estimate, digits, signed=True)} {primary.unit}"
    return (
        f"Of {len(bounds)} other methods, {'' if results.undecided else zero}{sum(containing)} "
        f"have an interval that contains the registered estimate of {registered}."
    )


def table(results: Results, found: Sensitivity) -> Table:
    """Show the primary effect by every method, the registered ones first."""
    digits = unit_of(results.outcome).digits
    groups = {
        "registered": _registered_rows(results, digits),
        "other models of the same units": _other_rows(results, found, digits),
        "units without an outcome: bounds, no sampling error": _bound_rows(found, digits),
    }
    rows: list[tuple[str, ...]] = []
    for heading, inside in groups.items():
        rows += [(heading,), *inside] if inside else []
    head = ("method", f"effect ({unit_of(results.outcome).name})", f"{results.level:.0%}", "p")
    return Table(head=head, rows=tuple(rows))


def _row(
    name: str, estimate: float, low: float, high: float, digits: int, p: str = ""
) -> tuple[str, ...]:
    return (name, number(estimate, digits, signed=True), interval(low, high, digits), p)


def _registered_rows(results: Results, digits: int) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    if (d := results.primary.difference) is not None:
        name = f"difference in means ({d.method})"
        rows.append(_row(name, d.estimate, d.low, d.high, digits, p_text(d.p)))
        if results.look is not None:
            low, high = stagewise_interval(
                results.looks, results.look, estimate=d.estimate, se=d.se, level=results.level
            )
            low, high = clip_difference(low, high, results.outcome)
            name = "the same after the looks so far, stage-wise (normal theory)"
            rows.append(_row(name, d.estimate, low, high, digits))
    if (r := results.primary.randomisation) is not None:
        name = "randomisation test, inverted"
        rows.append(_row(name, r.statistic, r.low, r.high, digits, p_text(r.p)))
    return rows


def _other_rows(results: Results, found: Sensitivity, digits: int) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    if (s := found.studentised) is not None:
        name = "studentised randomisation test"
        rows.append(_row(name, s.statistic, s.low, s.high, digits, p_text(s.p)))
    if (c := found.clustered) is not None:
        name = f"classes of {c.clusters} units, CR2"
        rows.append(_row(name, c.estimate, c.low, c.high, digits, p_text(c.p)))
    if (b := results.primary.beta) is not None:
        small = (b.small_sample_low, b.small_sample_high)
        rows.append(_row("Beta regression, small-sample", b.estimate, *small, digits))
        name = "Beta regression, Wald (too narrow)"
        rows.append(_row(name, b.estimate, b.low, b.high, digits, model_p_text(b.p)))
    rows += [_row(m.method, m.estimate, m.low, m.high, digits) for m in found.models]
    return rows


def _bound_rows(found: Sensitivity, digits: int) -> list[tuple[str, ...]]:
    a = found.attrition
    if a is None or not a.missing_arm + a.missing_against:
        return []
    bounds = {
        "worst case (Manski)": (a.worst_low, a.worst_high),
        "trimming (Lee)": (a.lee_low, a.lee_high),
    }
    return [
        (name, "", interval(low, high, digits), "")
        for name, (low, high) in bounds.items()
        if low is not None and high is not None
    ]


SECTION = Section(
    name="sensitivity",
    place="sensitivity",
    estimate=estimate,
    sentence=sentence,
    table=table,
    note=(
        "The registered rows decide. A squeeze replaces an outcome y by (y(N\N{THIN SPACE}"
        "\N{MINUS SIGN}\N{THIN SPACE}1)\N{THIN SPACE}+\N{THIN SPACE}"
        "\N{VULGAR FRACTION ONE HALF})/N; its result depends on N where outcomes are 0 or 1. "
        "Effects of models of counts and logits are averaged over units and given in percentage "
        "points."
    ),
)
