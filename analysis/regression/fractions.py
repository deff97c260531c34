"""Models that allow outcomes of exactly 0 and 1: beta-binomial, fractional logit, squeeze.

An AttAcc is k of n reconstructions, so a model of counts is its likelihood and a Beta regression an
approximation of that. These models are sensitivity analyses; the difference in means is primary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

from analysis.inference.difference import design_matrix, two_arm_table
from analysis.inference.ols import robust_covariance
from analysis.inference.table_checks import NotEstimable, check_columns, list_names
from analysis.regression.beta import beta_effect
from analysis.regression.g_computation import average_effect, link_of
from analysis.schema.columns import clip_difference, unit_of

_MAX_SCORE = 1e-3
_INFINITE = 10.0  # a fitted log odds above is drifting to infinity: 10 is a rate of 0.00005
INFINITE_ODDS = "all outcomes of an arm or block are 0 or all are 1: infinite log odds"
_NO_OVERDISPERSION = 15.0  # log(phi) above which counts are taken as binomial


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelEffect:
    """Average effect of an arm under one model, in percentage points, with a t(n - k) interval."""

    method: str
    arm: str
    against: str
    estimate: float
    se: float
    low: float
    high: float
    level: float
    n: int
    note: str = ""  # a parameter that is printed beside the interval

    def __str__(self) -> str:
        note = f"; {self.note}" if self.note else ""
        return (
            f"{self.arm} - {self.against} by {self.method}: {self.estimate:+.3g} pp "
            f"({self.level:.0%} interval {self.low:+.3g} to {self.high:+.3g}{note})"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class BetaBinomialFit:
    """Maximum-likelihood fit of k of n; covariance from the observed information."""

    coefficients: np.ndarray  # (p,) of the logit of the mean
    covariance: np.ndarray  # (p, p)
    phi: float  # precision; the intra-class correlation is 1 / (1 + phi)
    loglik: float  # with the binomial coefficients

    def __str__(self) -> str:
        terms = ", ".join(f"{b:.4g}" for b in self.coefficients)
        return f"beta-binomial: {terms}; phi {self.phi:.4g}, loglik {self.loglik:.6g}"


def fit_beta_binomial(k: np.ndarray, n: np.ndarray, x: np.ndarray) -> BetaBinomialFit:
    """Fit k (m,) of n (m,) with logit(mean) = x @ b, x (m, p), and one precision.

    Williams (1975); P(k) = C(n, k) B(k + mu phi, n - k + (1 - mu) phi) / B(mu phi, (1 - mu) phi).

    Raises:
        NotEstimable: counts vary no more than binomial ones, all of an arm or block are 0 or all
            are 1, or the fit does not converge.
    """

    columns = [x[:, j] == value for j in range(x.shape[1]) for value in (0, 1)]
    groups = [rows for rows in columns if rows.any()]
    if any((k[rows] == 0).all() or (k[rows] == n[rows]).all() for rows in groups):
        raise NotEstimable(INFINITE_ODDS)

    def negative(theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the negative log-likelihood without its constant, and its gradient."""
        mean, phi = special.expit(x @ theta[:-1]), np.exp(theta[-1])
        a, b = mean * phi, (1 - mean) * phi
        value = special.betaln(k + a, n - k + b) - special.betaln(a, b)
        shared = special.digamma(phi) - special.digamma(n + phi)
        by_a = special.digamma(k + a) - special.digamma(a) + shared
        by_b = special.digamma(n - k + b) - special.digamma(b) + shared
        slope = x.T @ ((by_a - by_b) * phi * mean * (1 - mean))
        return -float(value.sum()), -np.append(slope, float((by_a * a + by_b * b).sum()))

    rate = np.log((k.sum() + 0.5) / (n.sum() - k.sum() + 0.5))
    start = np.append(np.linalg.lstsq(x, np.full(len(k), rate), rcond=None)[0], 3.0)
    bounds = [(None, None)] * x.shape[1] + [(-5.0, _NO_OVERDISPERSION)]
    found = optimize.minimize(negative, start, jac=True, method="L-BFGS-B", bounds=bounds)
    theta = _polish(negative, found.x)
    if theta[-1] > _NO_OVERDISPERSION - 1:
        raise NotEstimable("the counts vary no more than binomial ones, so phi is not estimable")
    if np.abs(x @ theta[:-1]).max() > _INFINITE:
        raise NotEstimable(INFINITE_ODDS)
    score = float(np.abs(negative(theta)[1]).max())
    if not score < _MAX_SCORE:
        raise NotEstimable(f"the beta-binomial did not converge (largest score {score:.2g})")
    constant = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    return BetaBinomialFit(
        coefficients=theta[:-1],
        covariance=np.linalg.inv(_hessian(negative, theta))[:-1, :-1],
        phi=float(np.exp(theta[-1])),
        loglik=float(constant.sum()) - negative(theta)[0],
    )


def _hessian(function, theta: np.ndarray) -> np.ndarray:
    """Return the Hessian by central differences of the gradient, symmetrised."""
    step = 1e-5
    rows = [
        (function(theta + step * e)[1] - function(theta - step * e)[1]) / (2 * step)
        for e in np.eye(len(theta))
    ]
    return (np.array(rows) + np.array(rows).T) / 2


def _polish(function, theta: np.ndarray) -> np.ndarray:
    """Take Newton steps as long as they lower the largest score."""
    for _ in range(20):
        gradient = function(theta)[1]
        try:
            following = theta - np.linalg.solve(_hessian(function, theta), gradient)
        except np.linalg.LinAlgError:
            return theta
        if not np.abs(function(following)[1]).max() < np.abs(gradient).max():
            return theta
        theta = following
    return theta


def beta_binomial_effect(
    units: pd.DataFrame, k: str, n: str, *, arm: str, against: str, level: float = 0.95
) -> ModelEffect:
    """Estimate the average effect of ``arm`` by beta-binomial regression of the counts k of n.

    ``k`` and ``n`` name columns of ``units``. The model has arm and block indicators; the standard
    error is multiplied by sqrt(n / (n - k)) with the numbers of units and coefficients.

    Raises:
        ValueError: a column is missing, or a count is not in 0 <= k <= n with n > 0.
        NotEstimable: see :func:`fit_beta_binomial`; or too few units.
    """
    check_columns(units, [k, n])
    wrong = units["unit_id"][~((units[k] >= 0) & (units[k] <= units[n]) & (units[n] > 0))]
    if len(wrong):
        raise ValueError(f"counts need 0 <= {k} <= {n} and {n} > 0, not so for {list_names(wrong)}")
    rate = units.assign(rate=units[k] / units[n])
    table = two_arm_table(rate, "rate", arm=arm, against=against)
    x = design_matrix(table, arm)
    fit = fit_beta_binomial(table[k].to_numpy(float), table[n].to_numpy(float), x)
    effect = average_effect(link_of("logit"), fit.coefficients, fit.covariance, x)
    note = f"intra-class correlation {1 / (1 + fit.phi):.2g}"
    factor = float(np.sqrt(len(x) / (len(x) - x.shape[1])))
    method = "beta-binomial, small-sample interval"
    return _effect(method, effect, factor, x, level, note, arm=arm, against=against)


def fractional_logit_effect(
    units: pd.DataFrame, outcome: str, *, arm: str, against: str, level: float = 0.95
) -> ModelEffect:
    """Estimate the average effect of ``arm`` in a logit fitted by quasi-likelihood, with HC2.

    Papke & Wooldridge (1996), on arm and block indicators. HC2 uses the leverage of the weighted
    fit; statsmodels gives HC0 under that name.

    Raises:
        NotEstimable: an arm has only outcomes of 0 or only of 1, too few units, or one unit alone
            decides a coefficient.
    """
    table = two_arm_table(units, outcome, arm=arm, against=against)
    y, x = table[outcome].to_numpy(dtype=float), design_matrix(table, arm)
    coefficients = np.zeros(x.shape[1])
    for _ in range(100):
        mean = special.expit(x @ coefficients)
        weight = mean * (1 - mean)
        information = x.T @ (x * weight[:, None])
        try:
            step = np.linalg.solve(information, x.T @ (y - mean))
        except np.linalg.LinAlgError:
            step = np.full_like(coefficients, np.inf)
        if not np.all(np.abs(coefficients + step) < 30):
            raise NotEstimable(INFINITE_ODDS)
        coefficients = coefficients + step
        if np.abs(step).max() < 1e-12:
            break
    mean = special.expit(x @ coefficients)
    root = np.sqrt(mean * (1 - mean))  # of the weights of the last least-squares step
    covariance = robust_covariance(x * root[:, None], (y - mean) / root, kind="HC2")
    effect = average_effect(link_of("logit"), coefficients, covariance, x)
    return _effect("fractional logit, HC2", effect, 1.0, x, level, "", arm=arm, against=against)


def squeezed_effect(
    units: pd.DataFrame,
    outcome: str,
    *,
    arm: str,
    against: str,
    constant: float,
    level: float = 0.95,
) -> ModelEffect:
    """Fit the Beta regression to (y (N - 1) + 1/2) / N, with N = ``constant``.

    Smithson & Verkuilen (2006). The estimate depends on N where outcomes are 0 or 1, so ``method``
    states N, and the result is a sensitivity analysis only.

    Raises:
        NotEstimable: the constant is not above 1, or see
            :func:`analysis.regression.beta.beta_effect`.
    """
    if not constant > 1:
        raise NotEstimable(f"the constant of the squeeze must be above 1, got {constant:g}")
    two_arm_table(units, outcome, arm=arm, against=against)
    squeezed = units.assign(**{outcome: (units[outcome] * (constant - 1) + 0.5) / constant})
    fit = beta_effect(squeezed, outcome, arm=arm, against=against, level=level)
    return ModelEffect(
        method=f"Beta regression, outcomes squeezed with N = {constant:g}",
        arm=arm,
        against=against,
        estimate=fit.estimate,
        se=fit.estimate_se,
        low=fit.small_sample_low,
        high=fit.small_sample_high,
        level=level,
        n=fit.n,
    )


def _effect(
    method: str,
    effect: tuple[float, float],
    factor: float,
    x: np.ndarray,
    level: float,
    note: str,
    *,
    arm: str,
    against: str,
) -> ModelEffect:
    """Convert (estimate, standard error) in fractions to points, with a t(n - k) interval.

    ``factor`` multiplies the standard error in the interval.
    """
    n, k = x.shape
    if n <= k:
        raise NotEstimable(f"{n} units do not suffice for {k} coefficients")
    scale = unit_of("").scale
    estimate, se = scale * effect[0], scale * effect[1]
    half = float(stats.t.ppf((1 + level) / 2, n - k)) * se * factor
    low, high = clip_difference(estimate - half, estimate + half, "")
    return ModelEffect(
        method=method,
        arm=arm,
        against=against,
        estimate=estimate,
        se=se,
        low=low,
        high=high,
        level=level,
        n=n,
        note=note,
    )
