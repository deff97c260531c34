"""Bound a difference of two means by the limits of each mean (MOVER).

The method of variance estimates recovery (Zou & Donner 2008, Stat. Med. 27:1693; Newcombe 1998 for
proportions) takes the limits l, u of each mean at a critical value c and bounds the difference by

    D - sqrt((m1 - l1)^2 + (u0 - m0)^2)   and   D + sqrt((u1 - m1)^2 + (m0 - l0)^2)

With symmetric limits m +- c s that is D +- c sqrt(s1^2 + s0^2): a t interval. The mean of few
fractions near 1 (or 0) is skewed and goes with its own error, so a t interval misses on one side.
Limits of a fraction are therefore symmetric on a scale h on which that skewness is gone. By Hall
(1992, JRSS B 54:221) it puts -g T^2 / (3 sqrt(n)) into a studentised mean T, with g the skewness of
one outcome and d its standard deviation; a scale h puts in -(h''/2h') d T^2 / sqrt(n). They cancel
where h''/h' = -2 g / (3 d). A Beta of mean m and high precision has g / d = 2 (1 - 2 m) / (m (1 -
m)), which gives h'(m) = (m (1 - m))^(-4/3). No constant is fitted, m and s are all that is asked,
and the limits stay inside [0, 1]. The logit, whose slope is (m (1 - m))^(-1), corrects three
quarters of it. All functions take arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.integrate import cumulative_simpson
from scipy.interpolate import CubicHermiteSpline
from scipy.optimize import elementwise
from scipy.special import expit, logit

_INSIDE = 1e-12  # a mean of exactly 0 or 1 has no error, it only needs a place on the scale
_LARGEST = 1e8  # critical value beyond which nothing is asked

# The scale as a function of the logit x, from 0 on as it is odd: dh/dx = (2 cosh(x/2))^(2/3)
_LOGITS = np.linspace(0.0, 30.0, 3_001)
_SLOPES = (2 * np.cosh(_LOGITS / 2)) ** (2 / 3)
_HEIGHTS = cumulative_simpson(_SLOPES, x=_LOGITS, initial=0.0)
_TO_SCALE = CubicHermiteSpline(_LOGITS, _HEIGHTS, _SLOPES)
_TO_LOGIT = CubicHermiteSpline(_HEIGHTS, _LOGITS, 1 / _SLOPES)


def limits(mean: Any, se: Any, c: Any, *, fraction: bool) -> tuple[Any, Any]:
    """Return the limits of a mean at critical value c; of a fraction on the scale h."""
    if not fraction:
        return mean - c * se, mean + c * se
    inside = np.clip(mean, _INSIDE, 1 - _INSIDE)
    x = logit(inside)
    middle = np.sign(x) * _TO_SCALE(np.abs(x))
    half = c * np.where(se > 0, se, 0.0) * (inside * (1 - inside)) ** (-4 / 3)
    low, high = (_fraction_at(middle + way * half) for way in (-1, 1))
    return np.where(se > 0, low, mean), np.where(se > 0, high, mean)


def _fraction_at(height: Any) -> Any:
    """Return the fraction at a value of the scale h."""
    x = _TO_LOGIT(np.minimum(np.abs(height), _HEIGHTS[-1]))
    return expit(np.sign(height) * x)


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
