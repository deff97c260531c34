"""Model of leakage on all accuracies at once."""

from __future__ import annotations

from analysis import schema
from analysis.formatting.numbers import interval, number, p_relation, slope_digits, unit_names
from analysis.formatting.table import Table
from analysis.pipeline.primary import Results
from analysis.regression.leakage_model import LeakageModel, fit_leakage_model
from analysis.schema.columns import short_label
from analysis.secondary.context import Context
from analysis.secondary.interface import Section


def estimate(context: Context) -> LeakageModel | None:
    """Fit the model over all arms; None where clean or robust accuracy is not recorded."""
    if schema.CLEAN_ACC not in context.results.analysed or not context.joint:
        return None
    outcome = context.results.outcome
    return fit_leakage_model(context.complete, outcome, schema.CLEAN_ACC, context.joint)


def sentence(results: Results, found: LeakageModel) -> str:
    """State how well accuracies describe leakage, with the numbers that put R2 in proportion."""
    m = found
    chance = len(m.columns) / (m.n - 1)
    left = "not estimable" if m.lodo_r2 is None else number(m.lodo_r2, 2)
    return (
        f"Over {m.n} units of {m.defenses} arms, {len(m.columns)} accuracies give an R2 of "
        f"{number(m.r2, 2)} ({number(chance, 2)} expected by chance), adjusted "
        f"{number(m.adjusted_r2, 2)}, leaving one unit out {number(m.loo_r2, 2)}, leaving one arm "
        f"out {left}. Clean accuracy given the others: F {number(m.partial_f, 2)}, p "
        f"{p_relation(m.partial_p)}; not rejecting does not mean that it adds nothing."
    )


def table(results: Results, found: LeakageModel) -> Table:
    """Show coefficients, HC3 errors, VIF, and the range of slopes without one defense."""
    rows: list[tuple[str, ...]] = []
    digits = slope_digits(results.outcome)
    for j, column in enumerate(found.columns):
        left = [c[j] for c in found.lodo.values()]
        known = left and found.lodo_r2 is not None
        span = interval(min(left), max(left), digits) if known else "none"
        slope = number(found.coefficients[j], digits, signed=True)
        error = number(found.se[j], digits)
        rows.append((short_label(column), slope, error, number(found.vif[j], 1), span))
    head = ("accuracy", "partial slope", "HC3 SE", "VIF", "without one defense")
    return Table(head=head, rows=tuple(rows))


def title(results: Results) -> str:
    """Name the unit of leakage."""
    return f"The leakage model and the cost of {unit_names(results.outcome)['one']}"


def note(results: Results, found: LeakageModel) -> str:
    """Explain partial slope and VIF."""
    return (
        "Leakage on all accuracies at once, in "
        f"{unit_names(results.outcome)['many']} for one point. A partial slope holds the other "
        "accuracies fixed, which few defenses do. With a VIF above 10 the data cannot separate "
        "the accuracies."
    )


SECTION = Section(
    name="leakage_model",
    place="leakage",
    estimate=estimate,
    sentence=sentence,
    table=table,
    title=title,
    note=note,
)
