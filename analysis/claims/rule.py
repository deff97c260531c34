"""Rule by which a confidence set decides a claim.

The verdict depends on the confidence set, the margin and the direction, and on nothing else. The
set is two-sided at the level 1 - alpha. Where the truth lies at the margin it excludes the margin
in a share alpha of trials, so both false verdicts together have the probability alpha.
"""

from __future__ import annotations

from analysis.regression.fieller import ConfidenceSet

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
BELOW, ABOVE, WITHIN = "below", "above", "within"


def decide(confidence: ConfidenceSet, margin: float, direction: str) -> str:
    """Return the verdict on a claim.

    ============  ====================================  ==========================================
    direction     supported                             contradicted
    ============  ====================================  ==========================================
    ``below``     the whole set is below the margin     the whole set is above the margin
    ``above``     the whole set is above the margin     the whole set is below the margin
    ``within``    the whole set is inside +- margin     the whole set is outside +- margin
    ============  ====================================  ==========================================

    In all other cases the claim is undecided. An empty set decides nothing.

    Args:
        confidence: confidence set of the estimand.
        margin: in the unit of the set.
        direction: ``below``, ``above`` or ``within``.

    Raises:
        ValueError: the direction is another one.
    """
    pieces = confidence.pieces
    if direction not in (BELOW, ABOVE, WITHIN):
        raise ValueError(f"direction must be below, above or within, got {direction!r}")
    if not pieces:
        return UNDECIDED
    low, high = pieces[0][0], pieces[-1][1]
    if direction == WITHIN:
        if -margin < low and high < margin:
            return SUPPORTED
        outside = all(end < -margin or start > margin for start, end in pieces)
        return CONTRADICTED if outside else UNDECIDED
    if high < margin:
        return SUPPORTED if direction == BELOW else CONTRADICTED
    if low > margin:
        return SUPPORTED if direction == ABOVE else CONTRADICTED
    return UNDECIDED
