"""Bound a difference of two means by the limits of each mean (MOVER).

The method of variance estimates recovery (Zou & Donner 2008, Stat. Med. 27:1693; Newcombe 1998 for
proportions) takes the limits l, u of each mean at a critical value c and bounds the difference by

    D - sqrt((m1 - l1)^2 + (u0 - m0)^2)   and   D + sqrt((u1 - m1)^2 + (m0 - l0)^2)

With symmetric limits m +- c s that is D +- c sqrt(s1^2 + s0^2): a t interval. The mean of few
fractions near 1 (or 0) is skewed and goes with its own error, so a t interval misses on one side;
here limits of a fraction are symmetric on the logit scale (delta method), reach further towards 1/2
and stay inside [0, 1]. All functions take arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit, logit

_INSIDE = 1e-12  # a mean of exactly 0 or 1 has no error, so its logit only has to be finite
_LARGEST = 1e8  # critical value beyond which nothing is asked
_HALVINGS = 90


def limits(mean: Any, se: Any, c: Any, *, fraction: bool) -> tuple[Any, Any]:
    """Return the limits of a mean at critical value c; of a fraction on the logit scale."""
    if not fraction:
        return mean - c * se, mean + c * se
    inside = np.clip(mean, _INSIDE, 1 - _INSIDE)
    half = c * np.where(se > 0, se, 0.0) / (inside * (1 - inside))
    low, high = expit(logit(inside) - half), expit(logit(inside) + half)
    return np.where(se > 0, low, mean), np.where(se > 0, high, mean)


def bounds(arm: tuple[Any, Any], against: tuple[Any, Any], c: Any, *, fraction: bool) -> Any:
    """Return both ends for the difference of two (mean, standard error) at critical value c."""
    (m1, _), (m0, _) = arm, against
    low_1, high_1 = limits(*arm, c, fraction=fraction)
    low_0, high_0 = limits(*against, c, fraction=fraction)
    difference = m1 - m0
    return (
        difference - np.hypot(m1 - low_1, high_0 - m0),
        difference + np.hypot(high_1 - m1, m0 - low_0),
    )


def critical(arm: tuple[Any, Any], against: tuple[Any, Any], value: Any, *, fraction: bool) -> Any:
    """Return the c at which the interval ends at ``value``; negative above the difference.

    It is the t statistic of that value where limits are symmetric. Found by bisection, as the ends
    move monotonely with c.
    """
    above = np.asarray(value) > np.asarray(arm[0] - against[0])
    low, high = np.zeros(above.shape), np.full(above.shape, _LARGEST)
    for _ in range(_HALVINGS):
        middle = np.where(low > 1, np.sqrt(np.maximum(low, 1) * high), (low + high) / 2)
        ends = bounds(arm, against, middle, fraction=fraction)
        outside = np.where(above, ends[1] < value, ends[0] > value)
        low, high = np.where(outside, middle, low), np.where(outside, high, middle)
    return np.where(above, -low, low)
