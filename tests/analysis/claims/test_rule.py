"""The rule of a claim: a verdict follows from confidence set, margin and direction alone."""

from __future__ import annotations

import math

import pytest

from analysis.claims.rule import decide
from analysis.regression.fieller import ConfidenceSet

INF = math.inf


@pytest.mark.parametrize(
    ("pieces", "margin", "direction", "verdict"),
    [
        ([(-9.0, -6.0)], -5.0, "below", "supported"),
        ([(-9.0, -4.0)], -5.0, "below", "undecided"),
        ([(-4.0, 9.0)], -5.0, "below", "contradicted"),
        ([(-9.0, -6.0)], -5.0, "above", "contradicted"),
        ([(1.0, 2.0)], 0.5, "above", "supported"),
        ([(-9.0, -5.0)], -5.0, "below", "undecided"),  # the margin itself is not excluded
        ([(-1.0, 2.0)], 3.0, "within", "supported"),
        ([(-1.0, 4.0)], 3.0, "within", "undecided"),
        ([(-9.0, 9.0)], 3.0, "within", "undecided"),
        ([(4.0, 9.0)], 3.0, "within", "contradicted"),
        ([(-9.0, -4.0)], 3.0, "within", "contradicted"),
        ([(-INF, -4.0), (4.0, INF)], 3.0, "within", "contradicted"),
        ([(-INF, -4.0), (4.0, INF)], 3.0, "above", "undecided"),
        ([(-INF, INF)], 3.0, "below", "undecided"),
        ([(0.6, INF)], 0.5, "above", "supported"),
        ([], 3.0, "within", "undecided"),
    ],
)
def test_only_a_set_wholly_on_one_side_decides(pieces, margin, direction, verdict):
    confidence = ConfidenceSet(pieces=tuple(pieces), level=0.95)
    assert decide(confidence, margin, direction) == verdict


def test_another_direction_is_refused():
    with pytest.raises(ValueError, match="below, above or within"):
        decide(ConfidenceSet(pieces=((0.0, 1.0),), level=0.95), 0.0, "lower")
