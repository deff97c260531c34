"""Instruments and mediation: whether the effect on leakage acts through robust accuracy."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.formatting.numbers import (
    interval,
    number,
    p_relation,
    slope_digits,
    unit_names,
)
from analysis.formatting.table import Table
from analysis.pipeline.primary import Results
from analysis.regression.mechanism import (
    Mediation,
    TwoStage,
    WaldRatio,
    mediation,
    two_stage,
    wald_ratio,
)
from analysis.schema.columns import label, short_label, unit_of
from analysis.secondary.context import Context
from analysis.secondary.interface import Section


@dataclass(frozen=True, kw_only=True)
class Instruments:
    """Estimates at each epsilon at which robust accuracy varies."""

    wald: tuple[WaldRatio, ...]  # by epsilon
    mediation: dict[str, Mediation]  # by mediator
    two_stage: TwoStage | None  # all arms as instruments, first mediator


def estimate(context: Context) -> Instruments:
    """Estimate Wald ratios and mediation for the primary contrast, 2SLS over all arms."""
    outcome, level = context.results.outcome, context.results.level
    options = {**context.pair, "level": level}
    units = {m: context.measured(m) for m in context.mediators}
    wald = [
        context.attempt(f"Wald ratio on {m}", wald_ratio, table, outcome, m, **options)
        for m, table in units.items()
    ]
    mediated = {
        m: context.attempt(f"mediation by {m}", mediation, table, outcome, m, **options)
        for m, table in units.items()
    }
    return Instruments(
        wald=tuple(w for w in wald if w is not None),
        mediation={m: found for m, found in mediated.items() if found is not None},
        two_stage=_two_stage(context),
    )


def _two_stage(context: Context) -> TwoStage | None:
    """Use every arm as an instrument of the first mediator; two arms add nothing to Wald."""
    results, mediators = context.results, context.mediators
    if len(results.arms) < 3 or not mediators:
        return None
    reference = results.contrasts[0].against
    arms = [reference, *(a for a in results.arms if a != reference)]
    units = context.measured(mediators[0])
    return context.attempt("2SLS", two_stage, units, results.outcome, mediators[:1], arms=arms)


def sentence(results: Results, found: Instruments) -> list[str]:
    """State what instruments and mediation support and what they assume."""
    if not found.wald:
        return []
    bounded = [w for w in found.wald if w.anderson_rubin.bounded]
    weak = [w for w in found.wald if w.first_stage_f < 10]
    text = [
        "If an arm acted on leakage only through robust accuracy at one radius, the Wald ratio "
        "would be its effect for one point. One randomised contrast cannot test that: "
        f"it assumes that {found.wald[0].assumes[2].partition(': ')[2]}."
    ]
    if weak:
        names = ", ".join(w.mediator.outcome.partition("/")[2] for w in weak)
        text.append(
            f"The effect on robust accuracy at {names} is too uncertain for the arm to serve as an "
            "instrument of it (first-stage F below 10)."
        )
    if not bounded:
        text.append("No Anderson-Rubin set is bounded, so no ratio is estimated.")
    stage = found.two_stage
    if stage is not None and stage.sargan_p is not None:
        text.append(_exclusion(results, stage, stage.sargan_p))
    return text


def _exclusion(results: Results, stage: TwoStage, p: float) -> str:
    """State the result of Sargan's test that all arms act through one robust accuracy only.

    It is a description, not a claim: its chi-squared reference needs equal spreads and many units.
    """
    mediator = label(stage.mediators[0])
    test = f"Sargan J {number(stage.sargan or 0, 1)}, p {p_relation(p)}"
    arms = f"With all arms as instruments of {mediator}, the only radius that is tested,"
    caveat = (
        "The test assumes equal spreads and many units; where arms differ in spread it rejects a "
        "true restriction more often than its p says, so it is exploratory."
    )
    if results.undecided:
        return f"{arms} whether the exclusion restriction fails is not decided ({test}). {caveat}"
    if p <= results.alpha:
        return (
            f"{arms} the data do not fit the exclusion restriction ({test}), so leakage may not "
            f"follow this robust accuracy alone. {caveat}"
        )
    return (
        f"{arms} a violation of the exclusion restriction was not shown ({test}), which does not "
        f"establish the restriction. {caveat}"
    )


def table(results: Results, found: Instruments) -> Table:
    """Show effects on leakage and mediator, their ratio, and the indirect effect."""
    rows: list[tuple[str, ...]] = []
    unit, digits = unit_of(results.outcome), slope_digits(results.outcome)
    for w in found.wald:
        m = found.mediation.get(w.mediator.outcome)
        indirect = "not estimable"
        if m is not None:
            ends = interval(m.indirect_low, m.indirect_high, unit.digits)
            indirect = f"{number(m.indirect, unit.digits, signed=True)} ({ends})"
        rows.append(
            (
                short_label(w.mediator.outcome),
                number(w.mediator.estimate, 1, signed=True),
                number(w.ratio, digits, signed=True),
                str(w.anderson_rubin),
                number(w.first_stage_f, 1),
                number(w.ols_slope, digits, signed=True),
                indirect,
                "" if m is None else number(m.rho_zero, 2, signed=True),
            )
        )
    head = (
        "mediator",
        "effect on it (pp)",
        "Wald ratio",
        "Anderson-Rubin set",
        "first-stage F",
        "OLS slope",
        f"indirect ({unit.name})",
        "rho at zero",
    )
    return Table(head=head, rows=tuple(rows))


def note(results: Results, found: Instruments) -> str:
    """State the assumptions of each column."""
    assumed = next(iter(found.mediation.values())).assumes if found.mediation else ()
    return (
        f"Primary contrast. Wald ratio: {unit_names(results.outcome)['many']} for one point of "
        "robust accuracy; the Anderson-Rubin set keeps its level with a weak first stage as well. "
        f"Indirect effect by the product of coefficients, assuming {'; '.join(assumed)}; rho at "
        "zero is the correlation of unmeasured causes at which it vanishes."
    )


SECTION = Section(
    name="instruments",
    place="leakage",
    estimate=estimate,
    sentence=sentence,
    table=table,
    title="Instruments and mediation, at each epsilon",
    note=note,
    table_name="mechanism",
)
