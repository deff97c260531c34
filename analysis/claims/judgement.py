"""Verdict on a claim of a protocol, and the sentence that states it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.claims.estimands import Estimate, estimate
from analysis.claims.rule import SUPPORTED, UNDECIDED, WITHIN, decide
from analysis.formatting.numbers import number
from analysis.inference.table_checks import NotEstimable


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """A claim, what was found, and the verdict."""

    sentence: str
    paper: str  # what the paper found
    where: str  # place in the paper
    verdict: str
    found: Estimate | None  # None where it is not estimable
    margin: float  # printed unit
    direction: str
    reason: str  # why it is undecided although all data are there; empty otherwise

    def __str__(self) -> str:
        """Return the verdict with its evidence: ``Supported: ...``."""
        word = self.verdict.capitalize()
        if self.found is None:
            return f"{word}: {self.reason}."
        found = self.found
        value = _text(found, found.value)
        evidence = (
            f"{found.what} is {value} ({found.confidence.level:.0%} confidence "
            f"{'interval' if found.confidence.bounded else 'set'} {set_text(found)})"
        )
        evidence = evidence[0].upper() + evidence[1:]
        if self.reason:
            return f"{word}: {self.reason}. So far: {evidence}."
        return f"{word}: {evidence}, {self._relation()}."

    def _relation(self) -> str:
        """Say how the confidence set lies to the margin."""
        assert self.found is not None
        margin = _text(self.found, self.margin)
        if self.direction == WITHIN:
            inside = f"between {_text(self.found, -self.margin)} and {margin}"
            if self.verdict == UNDECIDED:
                return f"which is neither wholly {inside} nor wholly outside"
            return f"wholly {inside if self.verdict == SUPPORTED else f'outside of {inside}'}"
        if self.verdict == UNDECIDED:
            return f"which has values on both sides of the margin, {margin}"
        opposite = {"below": "above", "above": "below"}[self.direction]
        side = self.direction if self.verdict == SUPPORTED else opposite
        return f"wholly {side} the margin, {margin}"


def judge(
    units: pd.DataFrame, protocol: dict[str, Any], name: str, *, level: float, pending: str = ""
) -> Judgement:
    """Decide a claim of a protocol from its finished units.

    Args:
        units: one row a finished unit, with ``unit_id``, ``block``, ``arm`` and the outcomes.
        protocol: with the keys ``claims``, ``contrasts`` and ``outcome``.
        name: of the claim.
        level: of the confidence set, 1 - alpha.
        pending: why nothing may be decided yet, such as units that have not ended; empty if all is
            there.
    """
    claim = protocol["claims"][name]
    found, verdict, reason, margin = None, UNDECIDED, pending, float("nan")
    try:
        found = estimate(units, protocol, claim["estimand"], level)
        margin = found.scale * claim["margin"]
        if not pending:
            verdict = decide(found.confidence, margin, claim["direction"])
    except NotEstimable as error:
        reason = "; ".join(text for text in (pending, str(error)) if text)
    return Judgement(
        sentence=claim["sentence"],
        paper=claim["paper"],
        where=claim["where"],
        verdict=verdict,
        found=found,
        margin=margin,
        direction=claim["direction"],
        reason=reason,
    )


def _text(found: Estimate, value: float) -> str:
    """Write a number with its unit: ``-4.3 pp``; a ratio has no unit and no sign."""
    return f"{number(value, found.digits, signed=bool(found.unit))} {found.unit}".strip()


def set_text(found: Estimate) -> str:
    """Write a confidence set: ``-6.1 to -2.4``."""
    if not found.confidence.bounded:
        return str(found.confidence)
    bare = [
        tuple(_text(found, end).removesuffix(found.unit).strip() for end in piece)
        for piece in found.confidence.pieces
    ]
    return " or ".join(f"{low} to {high}" for low, high in bare)
