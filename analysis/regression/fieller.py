"""Confidence sets of ratios (Fieller), which may be unbounded and are then printed as such."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfidenceSet:
    """A union of intervals; ends may be infinite, and the set is empty without pieces."""

    pieces: tuple[tuple[float, float], ...]
    level: float

    @property
    def bounded(self) -> bool:
        """Tell whether both ends are finite."""
        return all(np.isfinite(end) for piece in self.pieces for end in piece)

    def __contains__(self, value: float) -> bool:
        return any(low <= value <= high for low, high in self.pieces)

    def __str__(self) -> str:
        if not self.pieces:
            return "empty"
        if self.bounded:
            return " or ".join(f"{low:.3g} to {high:.3g}" for low, high in self.pieces)
        if self.pieces == ((-np.inf, np.inf),):
            return "unbounded: every value"
        texts = [
            f"at least {low:.3g}" if np.isinf(high) else f"at most {high:.3g}"
            for low, high in self.pieces
        ]
        return "unbounded: " + " or ".join(texts)


def quadratic_set(a: float, b: float, c: float, level: float) -> ConfidenceSet:
    """Return the set of r with a r^2 + b r + c <= 0.

    It is an interval, the outside of one, a half line, the whole line, or empty.
    """
    scale = max(abs(a), abs(b), abs(c), 1e-300)
    pieces: tuple[tuple[float, float], ...]
    if abs(a) <= 1e-14 * scale:
        if abs(b) <= 1e-14 * scale:
            pieces = ((-np.inf, np.inf),) if c <= 0 else ()
        else:
            pieces = ((-np.inf, -c / b),) if b > 0 else ((-c / b, np.inf),)
        return ConfidenceSet(pieces=pieces, level=level)
    discriminant = b * b - 4 * a * c
    if discriminant < 0:
        return ConfidenceSet(pieces=() if a > 0 else ((-np.inf, np.inf),), level=level)
    far = -(b + np.copysign(np.sqrt(discriminant), b)) / 2  # this sign avoids cancellation
    roots = sorted((far / a, c / far if far else -b / a))
    low, high = float(roots[0]), float(roots[1])
    pieces = ((low, high),) if a > 0 else ((-np.inf, low), (high, np.inf))
    return ConfidenceSet(pieces=pieces, level=level)


def fieller(
    numerator: float,
    denominator: float,
    *,
    variances: tuple[float, float],
    covariance: float,
    critical: float,
    level: float,
) -> ConfidenceSet:
    """Return the set of ratios r with |numerator - r denominator| <= critical * its error.

    Fieller (1954). The set is unbounded wherever the denominator is not significant at
    ``critical``.

    Args:
        numerator, denominator: the two estimates.
        variances: of the numerator and of the denominator.
        covariance: of both.
        critical: quantile of t at which a ratio is excluded.
        level: that ``critical`` belongs to; it is stored with the set.
    """
    c2 = critical**2
    return quadratic_set(
        denominator**2 - c2 * variances[1],
        -2 * (numerator * denominator - c2 * covariance),
        numerator**2 - c2 * variances[0],
        level,
    )
