"""Links from a linear predictor to a mean, and the average effect of an arm (g-computation)."""

from __future__ import annotations

from typing import Any

import numpy as np

LINKS = {  # name here: class of statsmodels
    "logit": "Logit",
    "probit": "Probit",
    "cloglog": "CLogLog",
    "loglog": "LogLog",
    "cauchit": "Cauchy",
}


def link_of(name: str) -> Any:
    """Return statsmodels' link object, whose ``inverse`` gives the mean of a linear predictor."""
    if name not in LINKS:
        raise ValueError(f"unknown link {name!r}; known: {', '.join(sorted(LINKS))}")
    from statsmodels.genmod.families import links

    return getattr(links, LINKS[name])()


def average_effect(
    link: Any, coefficients: np.ndarray, covariance: np.ndarray, x: np.ndarray
) -> tuple[float, float]:
    """Return the mean difference of fitted means with column 0 set to 1 and to 0, and its SE.

    This is g-computation. The SE is by the delta method with the gradient mean(X1 mu1') -
    mean(X0 mu0'), where mu' is the derivative of the mean by its linear predictor: mu (1 - mu) for
    the logit.
    """
    with_arm, without = x.copy(), x.copy()
    with_arm[:, 0], without[:, 0] = 1.0, 0.0
    eta1, eta0 = with_arm @ coefficients, without @ coefficients
    slope1, slope0 = link.inverse_deriv(eta1), link.inverse_deriv(eta0)
    gradient = (slope1 @ with_arm - slope0 @ without) / len(x)
    difference = float((link.inverse(eta1) - link.inverse(eta0)).mean())
    return difference, float(np.sqrt(gradient @ covariance @ gradient))
