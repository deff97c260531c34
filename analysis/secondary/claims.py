"""Verdicts on the claims of a protocol.

Optional key of the protocol: ``claims`` (:mod:`analysis.claims`).
"""

from __future__ import annotations

from typing import Any

from analysis import schema
from analysis.claims import Judgement, judge
from analysis.claims.judgement import set_text
from analysis.formatting.numbers import number
from analysis.formatting.table import Table
from analysis.inference.table_checks import counted
from analysis.pipeline.primary import Results, analyse
from analysis.record.json_text import parse_json
from analysis.record.reader import Record
from analysis.secondary.context import Context
from analysis.secondary.interface import Section

Judgements = dict[str, Judgement]  # by name of the claim


def estimate(context: Context) -> Judgements | None:
    """Decide the claims; None where the protocol makes none."""
    return judge_claims(context.protocol, context.results) or None


def judge_claims(protocol: dict[str, Any], results: Results) -> Judgements:
    """Decide every claim of a protocol; all stay undecided while units are pending."""
    options = {"level": results.level, "pending": pending(results)}
    claims = protocol.get("claims") or {}
    return {name: judge(results.analysed, protocol, name, **options) for name in claims}


def pending(results: Results) -> str:
    """Say how many units have not ended, so that nothing is decided; empty if all have."""
    total = results.flow.total
    if not total.pending:
        return ""
    return f"{counted(total.pending, 'unit')} of {total.allocated:,} have not ended"


def recorded_judgement(judgement: Judgement, results: Results) -> dict[str, Any]:
    """Return a verdict as the record holds it, with the number of units that it is based on."""
    return {
        "finished": results.flow.total.finished,
        "verdict": judgement.verdict,
        "evidence": str(judgement),
    }


def changed_verdicts(record: Record) -> list[str]:
    """Decide the claims of a record anew; list how the recorded verdicts differ.

    A claim is left out before the first report, and where other units have finished since.

    Raises:
        ValueError: a recorded verdict is malformed.
    """
    results = analyse(record)
    lines = []
    for name, judgement in judge_claims(record.protocol, results).items():
        text = record.tags.get(schema.CLAIM_PREFIX + name)
        if not text:
            continue
        recorded = parse_json(text, dict, f"the tag {schema.CLAIM_PREFIX}{name}")
        now = recorded_judgement(judgement, results)
        if recorded.get("finished") == now["finished"]:
            lines += [
                f"the {key} on the claim {name} is recorded as {str(recorded.get(key))!r}, the "
                f"record gives {now[key]!r}"
                for key in ("verdict", "evidence")
                if recorded.get(key) != now[key]
            ]
    return lines


def sentence(results: Results, found: Judgements) -> list[str]:
    """State each claim, what the paper found, and the verdict."""
    return [
        line
        for name, one in found.items()
        for line in (
            f"Claim {name}: {one.sentence}",
            f"The paper ({one.where}): {one.paper}",
            str(one),
        )
    ]


def table(results: Results, found: Judgements) -> Table:
    """Show the verdicts with their evidence in numbers."""
    head = ("claim", "verdict", "estimate", "confidence set", "margin", "direction", "unit")
    return Table(head=head, rows=tuple(_row(name, one) for name, one in found.items()))


def _row(name: str, one: Judgement) -> tuple[str, ...]:
    found = one.found
    if found is None:
        return (name, one.verdict, "", "", "", one.direction, "")
    value, margin = (number(v, found.digits, signed=True) for v in (found.value, one.margin))
    unit = found.unit or "ratio"
    return (name, one.verdict, value, set_text(found), margin, one.direction, unit)


def note(results: Results, found: Judgements) -> str:
    """State the rule and its error."""
    alpha = f"{100 * results.alpha:g}%"
    return (
        "The rule: a claim is supported where the whole confidence set lies beyond the margin in "
        "the claim's direction, contradicted where it lies wholly on the other side, and else "
        f"undecided. Where the truth lies at the margin, {alpha} of trials give a false verdict, "
        "about so for curves, whose joined lines bend at the doses. This holds for each claim "
        "alone, apart from the error rate of the first sentence of this page."
    )


SECTION = Section(
    name="claims", place="claims", estimate=estimate, sentence=sentence, table=table, note=note
)
