"""Non-inferiority and equivalence at the margins that the protocol declares.

Optional key of the protocol: ``margins`` {outcome: fraction}.
"""

from __future__ import annotations

from analysis.formatting.numbers import needed_p, number, p_relation, p_text
from analysis.formatting.table import Table
from analysis.inference.noninferiority import MarginTest, margin_test
from analysis.pipeline.primary import Results
from analysis.schema.columns import label
from analysis.secondary.context import Context
from analysis.secondary.interface import Section


def estimate(context: Context) -> list[MarginTest] | None:
    """Test each declared margin for the primary contrast; None where none is declared."""
    results = context.results
    margins = context.protocol.get("margins", {})
    found = [
        context.attempt(
            f"margin of {outcome}",
            margin_test,
            results.analysed.dropna(subset=[outcome]),
            outcome,
            **context.pair,
            margin=float(margin),
            alpha=(results.needed or results.alpha) / 2,
        )
        for outcome, margin in margins.items()
        if outcome in results.analysed
    ]
    return [f for f in found if f is not None] if margins else None


def sentence(results: Results, found: list[MarginTest]) -> list[str]:
    """State for each declared margin whether non-inferiority was shown."""
    return [_sentence(results, test) for test in found]


def _sentence(results: Results, m: MarginTest) -> str:
    d, margin = m.difference, f"{number(m.margin, 1)} {m.difference.unit}"
    what = label(d.outcome)
    bound = f"one-sided {1 - m.alpha:.1%} lower bound {number(m.low, 1, signed=True)} {d.unit}"
    if results.undecided:
        return (
            f"So far {what} of {d.arm} minus that of {d.against} is "
            f"{number(d.estimate, 1, signed=True)} {d.unit} ({bound}). Whether a loss of "
            f"{margin} is excluded is not decided."
        )
    if m.noninferior:
        claim = f"a loss of {margin} or more in {what} by {d.arm} is excluded"
    else:
        claim = f"that {d.arm} loses less than {margin} in {what} was not shown"
    threshold = results.look_threshold
    half = needed_p(threshold if threshold is None else threshold / 2)  # one-sided test
    return f"{claim[0].upper()}{claim[1:]} ({bound}, p {p_relation(m.noninferiority_p)}{half})."


def table(results: Results, found: list[MarginTest]) -> Table:
    """Show each margin with its one-sided bound, and both verdicts unless nothing is decided."""

    def verdict(shown: bool, p: float) -> str:
        word = "shown" if shown else "not shown"
        return p_text(p) if results.undecided else f"{word} ({p_text(p)})"

    rows = tuple(
        (
            label(m.difference.outcome),
            f"{number(m.margin, 1)} {m.difference.unit}",
            number(m.difference.estimate, 1, signed=True),
            number(m.low, 1, signed=True),
            verdict(m.noninferior, m.noninferiority_p),
            verdict(m.equivalent, m.equivalence_p),
        )
        for m in found
    )
    bound = f"lower bound, one-sided {1 - found[0].alpha:.1%}" if found else ""
    head = ("outcome", "margin", "difference", bound, "non-inferior (p)", "equivalent (p)")
    return Table(head=head, rows=rows)


def absent(results: Results) -> str:
    """State that no margin is declared; an A/A check needs none."""
    if results.same_training:
        return ""
    return "The protocol declares no margin, so non-inferiority of accuracy is not tested."


SECTION = Section(
    name="margins",
    place="accuracy",
    estimate=estimate,
    sentence=sentence,
    table=table,
    absent=absent,
)
