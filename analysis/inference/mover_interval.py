"""Interval of a difference of two means from the limits of each mean (MOVER).

The method of variance estimates recovery (Zou & Donner 2008, Stat. Med. 27:1693; Newcombe 1998 for
proportions) takes the limits l, u of each mean at a critical value c and bounds the difference by

    D - sqrt((m1 - l1)^2 + (u0 - m0)^2)   and   D + sqrt((u1 - m1)^2 + (m0 - l0)^2)

With symmetric limits m +- c s this is D +- c sqrt(s1^2 + s0^2), a t interval. The mean of few
fractions near 1 (or 0) is skewed and correlated with its standard error, so a t interval misses on
one side. The limits of a fraction are therefore computed on the logit scale, which stays inside
[0, 1], and shifted there by the skewness that remains.

By Hall (1992, JRSS B 54:221) skewness adds -g T^2 / (3 sqrt(n)) to a studentised mean T, with g the
skewness of one outcome and d its standard deviation. A scale h adds -(h''/2h') d T^2 / sqrt(n). A
Beta of mean m and high precision has g / d = 2 (1 - 2 m) / V with V = m (1 - m), and the logit has
h''/h' = -(1 - 2 m) / V. The sum of both terms is -a T^2 with a = (1 - 2 m) s / 6 V. Limits at +-c
are therefore shifted by a c^2 standard errors of the logit, towards 1/2. The Pade approximant
a c^2 / (1 + |a| c) of the same order keeps both limits monotone in c. No constant is fitted; only m
and s are needed. All functions take arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import elementwise
from scipy.special import expit, logit

_INSIDE = 1e-12  # a mean of exactly 0 or 1 has no error, so its logit only has to be finite
_LARGEST = 1e8  # the largest critical value that is searched


def mean_limits(mean: Any, se: Any, c: Any, *, fraction: bool) -> tuple[Any, Any]:
    """Return both limits of a mean at critical value c; those of a fraction correct skewness."""
    if not fraction:
        return mean - c * se, mean + c * se
    m = np.clip(mean, _INSIDE, 1 - _INSIDE)
    variance = m * (1 - m)
    a = (1 - 2 * m) * se / (6 * variance)
    shift = a * c**2 / (1 + np.abs(a) * c)
    step = np.where(se > 0, se, 0.0) / variance  # one standard error of the logit
    low, high = (expit(logit(m) + step * (shift + way * c)) for way in (-1, 1))
    return np.where(se > 0, low, mean), np.where(se > 0, high, mean)


def difference_limits(
    arm: tuple[Any, Any], against: tuple[Any, Any], c: Any, *, fraction: bool
) -> tuple[Any, Any]:
    """Return both limits of the difference of two (mean, standard error) at critical value c."""
    (m1, _), (m0, _) = arm, against
    low_1, high_1 = mean_limits(*arm, c, fraction=fraction)
    low_0, high_0 = mean_limits(*against, c, fraction=fraction)
    difference = m1 - m0
    return (
        difference - np.hypot(m1 - low_1, high_0 - m0),
        difference + np.hypot(high_1 - m1, m0 - low_0),
    )


def critical_value(
    arm: tuple[Any, Any], against: tuple[Any, Any], value: Any, *, fraction: bool
) -> Any:
    """Return the critical value c at which the interval of the difference ends at ``value``.

    It is negative where ``value`` is above the difference. With symmetric limits it is the t
    statistic of that value. The ends are monotone in c, so c is found by Chandrupatla's method over
    log(1 + c).
    """
    arrays = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (*arm, *against, value)))

    def distance(u: Any, m1: Any, s1: Any, m0: Any, s0: Any, value: Any) -> Any:
        """Return how far the value lies outside the end on its side; negative inside."""
        low, high = difference_limits((m1, s1), (m0, s0), np.expm1(u), fraction=fraction)
        return np.where(value > m1 - m0, value - high, low - value)

    bracket = (0.0, np.log1p(_LARGEST))
    found = elementwise.find_root(
        distance, bracket, args=tuple(arrays), tolerances={"xrtol": 1e-12}
    )
    c = np.where(found.success, np.expm1(found.x), _LARGEST)
    return np.where(arrays[4] > arrays[0] - arrays[2], -c, c)
