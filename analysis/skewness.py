"""Correct a t statistic for the skewness of the difference that it measures.

A fraction near 1 is skewed, and a mean of few skewed values goes with its own error, so that a t
interval misses on one side. Hall (1992), "On the removal of skewness by transformation", J. R.
Statist. Soc. B 54, transforms t by a monotone cubic that takes the skewness out to first order;
being monotone it turns back into an interval. For two samples the skewness is that of the
difference in means (Cressie & Whitford 1986); without skewness nothing changes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_NEGLIGIBLE = 1e-6  # below it the cubic is the identity to rounding


def third_moment(values: np.ndarray) -> Any:
    """Estimate the third central moment of each column of (n, ...) values, without bias; n >= 3.

    n / ((n - 1) (n - 2)) sum (y - mean)^3, Fisher's k-statistic.
    """
    n = len(values)
    return ((values - values.mean(axis=0)) ** 3).sum(axis=0) * n / ((n - 1) * (n - 2))


def corrected(t: Any, skewness: Any) -> Any:
    """Transform t statistics: t + g / 6 + g t^2 / 3 + g^2 t^3 / 27 with the skewness g."""
    return t + skewness / 6 + skewness * t**2 / 3 + skewness**2 * t**3 / 27


def uncorrected(x: Any, skewness: Any) -> Any:
    """Turn transformed statistics back: the inverse of :func:`corrected`."""
    g = np.where(np.abs(skewness) < _NEGLIGIBLE, _NEGLIGIBLE, skewness)
    found = 3 / g * (np.cbrt(1 + g * (x - g / 6)) - 1)
    return np.where(np.abs(skewness) < _NEGLIGIBLE, x, found)
