"""Tests of non-inferiority and equivalence by a margin that is stated before the trial."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis.inference.difference import Difference, difference_in_means
from analysis.schema.columns import unit_of


@dataclass(frozen=True, kw_only=True, slots=True)
class MarginTest:
    """Tell whether ``arm`` is at most ``margin`` worse than, or within it of, ``against``."""

    difference: Difference
    margin: float  # printed unit of the outcome
    alpha: float  # one-sided level of each test
    low: float  # one-sided bound at 1 - alpha
    high: float  # one-sided bound at 1 - alpha
    noninferiority_p: float
    equivalence_p: float  # the larger of two one-sided p-values
    superiority_p: float  # one-sided; needs no correction if tested after non-inferiority

    @property
    def noninferior(self) -> bool:
        """Tell whether a loss of ``margin`` or more is excluded."""
        return self.noninferiority_p <= self.alpha

    @property
    def equivalent(self) -> bool:
        """Tell whether any difference of ``margin`` or more is excluded."""
        return self.equivalence_p <= self.alpha

    def __str__(self) -> str:
        d = self.difference
        shown = "shown" if self.noninferior else "not shown"
        same = "shown" if self.equivalent else "not shown"
        return (
            f"{d.arm} - {d.against}: {d.estimate:+.3g} {d.unit}, one-sided lower bound "
            f"{self.low:+.3g}; non-inferiority by {self.margin:g} {d.unit} {shown} "
            f"(p = {self.noninferiority_p:.3g}), equivalence {same} (p = {self.equivalence_p:.3g})"
        )


def margin_test(
    units: pd.DataFrame,
    outcome: str,
    *,
    arm: str,
    against: str,
    margin: float,
    alpha: float = 0.025,
) -> MarginTest:
    """Test whether ``arm`` loses less than ``margin`` and differs by less than ``margin``.

    More of the outcome is better. Two one-sided tests (Schuirmann 1987) with the error, the degrees
    of freedom and the limits of :func:`analysis.inference.difference.difference_in_means`.

    Args:
        units: one row a unit: ``unit_id``, ``block``, ``arm`` and the outcome.
        outcome: column that is compared.
        arm, against: the two arms.
        margin: a positive size in the unit of the table (0.02 is 2 percentage points).
        alpha: one-sided level of each test.

    Raises:
        ValueError: the margin is not positive.
        NotEstimable: the difference in means is not estimable.
    """
    if not margin > 0:
        raise ValueError(f"a margin is a positive size, got {margin:g}")
    d = difference_in_means(units, outcome, arm=arm, against=against)
    scaled = unit_of(outcome).scale * margin
    low, high = d.bounds(1 - 2 * alpha)
    above, below = d.p_above(-scaled), 1 - d.p_above(scaled)
    return MarginTest(
        difference=d,
        margin=scaled,
        alpha=alpha,
        low=low,
        high=high,
        noninferiority_p=above,
        equivalence_p=max(above, below),
        superiority_p=d.p_above(0.0),
    )
