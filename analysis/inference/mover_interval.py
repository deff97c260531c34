"""Bound a difference of two means by the limits of each mean (MOVER).

The method of variance estimates recovery (Zou & Donner 2008, Stat. Med. 27:1693; Newcombe 1998 for
proportions) takes the limits l, u of each mean at a critical value c and bounds the difference by

    D - sqrt((m1 - l1)^2 + (u0 - m0)^2)   and   D + sqrt((u1 - m1)^2 + (m0 - l0)^2)

With symmetric limits m +- c s that is D +- c sqrt(s1^2 + s0^2): a t interval. The mean of few
fractions near 1 (or 0) is skewed and goes with its own error, so a t interval misses on one side.
Limits of a fraction are made on the logit scale, which stays inside [0, 1], and shifted there by
the skewness that is left. By Hall (1992, JRSS B 54:221) skewness puts -g T^2 / (3 sqrt(n)) into a
studentised mean T, with g the skewness of one outcome and d its standard deviation; a scale h puts
in -(h''/2h') d T^2 / sqrt(n). A Beta of mean m and high precision has g / d = 2 (1 - 2 m) / V with
V = m (1 - m), and the logit h''/h' = -(1 - 2 m) / V, so that -a T^2 is left, a = (1 - 2 m) s / 6 V.
Limits at +-c are therefore shifted by a c^2 standard errors of the logit, towards 1/2; the Pade
approximant a c^2 / (1 + |a| c) of the same order keeps both of them monotone in c. No constant is
fitted; m and s are all that is asked. All functions take arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import elementwise
from scipy.special import expit, logit

_INSIDE = 1e-12  # a mean of exactly 0 or 1 has no error, so its logit only has to be finite
_LARGEST = 1e8  # critical value beyond which nothing is asked


def limits(mean: Any, se: Any, c: Any, *, fraction: bool) -> tuple[Any, Any]:
    """Return the limits of a mean at critical value c; of a fraction corrected for skewness."""
    if not fraction:
        return mean - c * se, mean + c * se
    m = np.clip(mean, _INSIDE, 1 - _INSIDE)
    variance = m * (1 - m)
    a = (1 - 2 * m) * se / (6 * variance)
    shift = a * c**2 / (1 + np.abs(a) * c)
    step = np.where(se > 0, se, 0.0) / variance  # one standard error of the logit
    low, high = (expit(logit(m) + step * (shift + way * c)) for way in (-1, 1))
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

    It is the t statistic of that value where limits are symmetric. Found by Chandrupatla's method,
    as the ends move monotonely with c, over log(1 + c).
    """
    arrays = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (*arm, *against, value)))

    def short(u: Any, m1: Any, s1: Any, m0: Any, s0: Any, value: Any) -> Any:
        """Return by how much the end on the side of the value falls short of it."""
        low, high = bounds((m1, s1), (m0, s0), np.expm1(u), fraction=fraction)
        return np.where(value > m1 - m0, value - high, low - value)

    edges = (0.0, np.log1p(_LARGEST))
    found = elementwise.find_root(short, edges, args=tuple(arrays), tolerances={"xrtol": 1e-12})
    c = np.where(found.success, np.expm1(found.x), _LARGEST)
    return np.where(arrays[4] > arrays[0] - arrays[2], -c, c)
