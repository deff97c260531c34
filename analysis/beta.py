"""Fit the Beta regression of the paper's field beside the randomisation test, never instead of it.

Ferrari & Cribari-Neto (2004): y ~ Beta(mu phi, (1 - mu) phi), logit(mu) = x'b, one phi.
With few runs the maximum-likelihood precision is biased up and Wald intervals are too narrow, so
the effect carries a small-sample interval too.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit

from analysis.checks import NotEstimable
from analysis.effects import contrasted
from analysis.labels import unit_of

_MAX_SCORE = 1e-4


@dataclass(frozen=True, kw_only=True, slots=True)
class BetaFit:
    """Maximum-likelihood fit; covariance from the expected information, as R's betareg reports."""

    coefficients: np.ndarray  # (k,) of the linear predictor
    covariance: np.ndarray  # (k, k)
    phi: float
    phi_se: float  # delta method from log(phi)
    loglik: float
    n: int

    @property
    def se(self) -> np.ndarray:
        """Standard errors of the coefficients, (k,)."""
        return np.sqrt(np.diag(self.covariance))

    def __str__(self) -> str:
        terms = ", ".join(
            f"{b:.4g} (SE {s:.4g})" for b, s in zip(self.coefficients, self.se, strict=True)
        )
        return f"Beta regression: {terms}; phi {self.phi:.4g}, loglik {self.loglik:.6g}, n {self.n}"


@dataclass(frozen=True, kw_only=True, slots=True)
class BetaEffect:
    """Effect of ``arm`` against ``against`` in a Beta regression with block indicators."""

    arm: str
    against: str
    outcome: str
    coefficient: float  # log odds ratio of the mean
    se: float
    z: float
    p: float  # Wald; too small with few runs
    odds_ratio: float
    phi: float
    loglik: float
    n: int
    estimate: float  # g-computation: mean difference of fitted means, percentage points
    estimate_se: float  # delta method
    low: float
    high: float
    small_sample_low: float  # SE * sqrt(n / (n - k)) and t(n - k)
    small_sample_high: float
    level: float

    def __str__(self) -> str:
        return (
            f"{self.arm} - {self.against}: {self.estimate:+.3g} pp by Beta regression "
            f"({self.level:.0%} {self.low:+.3g} to {self.high:+.3g}, small-sample "
            f"{self.small_sample_low:+.3g} to {self.small_sample_high:+.3g}); coefficient "
            f"{self.coefficient:.4g} (SE {self.se:.4g}), odds ratio {self.odds_ratio:.3g}"
        )


def fit_beta(y: np.ndarray, x: np.ndarray) -> BetaFit:
    """Fit logit(mean) = x @ b with constant precision; y (n,) strictly in (0, 1), x (n, k).

    BFGS, then Newton steps; the score is checked here because the optimiser's own flag is wrong
    both ways.
    """
    if not np.all((y > 0) & (y < 1)):  # also catches NaN; statsmodels only asserts
        raise NotEstimable("Beta regression needs every outcome strictly between 0 and 1")
    from statsmodels.othermod.betareg import BetaModel

    model = BetaModel(y, x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about convergence, which is judged by the score below
        start = model.fit(method="bfgs", disp=False)
        fit = model.fit(start_params=start.params, method="newton", cov_type="eim", disp=False)
    score = float(np.abs(model.score(fit.params)).max())
    if not score < _MAX_SCORE:
        raise NotEstimable(f"the Beta likelihood did not converge (largest score {score:.2g})")
    covariance = np.asarray(fit.cov_params())
    phi = float(np.exp(fit.params[-1]))
    return BetaFit(
        coefficients=np.asarray(fit.params[:-1]),
        covariance=covariance[:-1, :-1],
        phi=phi,
        phi_se=phi * float(np.sqrt(covariance[-1, -1])),
        loglik=float(fit.llf),
        n=len(y),
    )


def beta_effect(
    units: pd.DataFrame, outcome: str, *, arm: str, against: str, level: float = 0.95
) -> BetaEffect:
    """Fit arm and block indicators to the units of two arms and average the effect over them.

    Raises:
        NotEstimable: an outcome of exactly 0 or 1 (the units are named), no variation within an
            arm, or no convergence.
    """
    table = contrasted(units, outcome, arm=arm, against=against)
    y = table[outcome].to_numpy(dtype=float)
    _check_support(table, outcome, y)
    z = (table["arm"] == arm).to_numpy(dtype=float)
    block = pd.factorize(table["block"])[0]
    x = np.column_stack([z, block[:, None] == np.arange(block.max() + 1)]).astype(float)
    if len(y) <= x.shape[1]:
        raise NotEstimable(f"{len(y)} units do not suffice for {x.shape[1]} coefficients")
    fit = fit_beta(y, x)
    estimate, se = _average_effect(fit, x)
    n, k = x.shape
    half = stats.norm.ppf((1 + level) / 2) * se
    small_half = stats.t.ppf((1 + level) / 2, n - k) * se * np.sqrt(n / (n - k))
    scale = unit_of(outcome).scale
    wald = fit.coefficients[0] / fit.se[0]
    return BetaEffect(
        arm=arm,
        against=against,
        outcome=outcome,
        coefficient=float(fit.coefficients[0]),
        se=float(fit.se[0]),
        z=float(wald),
        p=float(2 * stats.norm.sf(abs(wald))),
        odds_ratio=float(np.exp(fit.coefficients[0])),
        phi=fit.phi,
        loglik=fit.loglik,
        n=n,
        estimate=scale * estimate,
        estimate_se=scale * se,
        low=scale * float(estimate - half),
        high=scale * float(estimate + half),
        small_sample_low=scale * float(estimate - small_half),
        small_sample_high=scale * float(estimate + small_half),
        level=level,
    )


def _check_support(table: pd.DataFrame, outcome: str, y: np.ndarray) -> None:
    at_bound = table["unit_id"][(y <= 0) | (y >= 1)]
    if len(at_bound):
        raise NotEstimable(
            f"Beta regression is undefined at 0 and 1: {outcome} of {', '.join(at_bound)}"
        )
    constant = [
        arm for arm in table["arm"].unique() if np.ptp(y[(table["arm"] == arm).to_numpy()]) == 0
    ]
    if constant:
        raise NotEstimable(
            f"all units of {', '.join(map(str, constant))} have the same {outcome}, "
            "so a Beta precision cannot be estimated; are the seeds of the runs distinct?"
        )


def _average_effect(fit: BetaFit, x: np.ndarray) -> tuple[float, float]:
    """Return the average difference of fitted means with column 0 set to 1 and 0, and its SE.

    g-computation; SE by the delta method, gradient mean(X1 mu1(1-mu1)) - mean(X0 mu0(1-mu0)).
    """
    with_arm, without = x.copy(), x.copy()
    with_arm[:, 0], without[:, 0] = 1.0, 0.0
    mu1, mu0 = expit(with_arm @ fit.coefficients), expit(without @ fit.coefficients)
    slope1, slope0 = mu1 * (1 - mu1), mu0 * (1 - mu0)
    gradient = (slope1 @ with_arm - slope0 @ without) / len(x)
    return float((mu1 - mu0).mean()), float(np.sqrt(gradient @ fit.covariance @ gradient))
