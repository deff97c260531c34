"""Beta regression: a model of fractions that is reported beside the randomisation test.

Ferrari & Cribari-Neto (2004): y ~ Beta(mu phi, (1 - mu) phi), logit(mu) = x'b, one phi. With few
runs the maximum-likelihood precision is biased up and Wald intervals are too narrow, so the effect
has a small-sample interval too. The model never replaces the randomisation test.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.inference.difference import design_matrix, two_arm_table
from analysis.inference.table_checks import NotEstimable, list_names
from analysis.regression.g_computation import average_effect, link_of
from analysis.schema.columns import clip_difference, unit_of

_MAX_SCORE = 1e-4  # largest absolute score of a fit that counts as converged
_INFORMATION = {"expected": "eim", "observed": "nonrobust"}  # name here: statsmodels' cov_type


@dataclass(frozen=True, kw_only=True, slots=True)
class BetaFit:
    """Maximum-likelihood fit of a Beta regression."""

    coefficients: np.ndarray  # (k,) of the linear predictor of the mean
    covariance: np.ndarray  # (k, k)
    precision_coefficients: np.ndarray  # (q,) of log(phi); (1,) without a precision submodel
    precision_covariance: np.ndarray  # (q, q)
    loglik: float
    n: int
    score: float  # largest absolute score at the solution
    link: str
    information: str  # expected or observed

    @property
    def se(self) -> np.ndarray:
        """Standard errors of the coefficients, (k,)."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def precision_se(self) -> np.ndarray:
        """Standard errors of the coefficients of log(phi), (q,)."""
        return np.sqrt(np.diag(self.precision_covariance))

    @property
    def phi(self) -> float:
        """The precision where it is constant."""
        if len(self.precision_coefficients) > 1:
            raise ValueError("phi is not constant in this fit; use precision_coefficients")
        return float(np.exp(self.precision_coefficients[0]))

    def __str__(self) -> str:
        terms = ", ".join(
            f"{b:.4g} (SE {s:.4g})" for b, s in zip(self.coefficients, self.se, strict=True)
        )
        phi = f"phi {self.phi:.4g}" if len(self.precision_coefficients) == 1 else "phi modelled"
        return (
            f"Beta regression ({self.link}, {self.information} information): {terms}; {phi}, "
            f"loglik {self.loglik:.6g}, n {self.n}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LikelihoodRatio:
    """Likelihood-ratio test that the precision does not depend on its covariates.

    The chi-squared reference needs many units.
    """

    statistic: float
    df: int
    p: float

    def __str__(self) -> str:
        return f"LR = {self.statistic:.5g} on {self.df} df, p = {self.p:.3g}"


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
    odds_ratio: float | None  # of the logit link only
    phi: float
    loglik: float
    n: int
    estimate: float  # g-computation: mean difference of fitted means, percentage points
    estimate_se: float  # delta method
    low: float
    high: float
    small_sample_low: float  # interval with SE * sqrt(n / (n - k)) and t(n - k)
    small_sample_high: float
    level: float
    link: str
    largest_residual: float  # largest quantile residual, standard normal if the model holds
    largest_unit: str  # unit of that residual
    precision: LikelihoodRatio | None  # test of one phi in both arms; None where not converged

    def __str__(self) -> str:
        return (
            f"{self.arm} - {self.against}: {self.estimate:+.3g} pp by Beta regression "
            f"({self.level:.0%} {self.low:+.3g} to {self.high:+.3g}, small-sample "
            f"{self.small_sample_low:+.3g} to {self.small_sample_high:+.3g}); coefficient "
            f"{self.coefficient:.4g} (SE {self.se:.4g}, {self.link} link)"
        )


def fit_beta(
    y: np.ndarray,
    x: np.ndarray,
    *,
    precision: np.ndarray | None = None,
    link: str = "logit",
    information: str = "expected",
) -> BetaFit:
    """Fit link(mean) = x @ b; y (n,) strictly in (0, 1), x (n, k).

    The optimiser takes BFGS, then Newton steps. Convergence is judged by the score, because
    statsmodels' own flag is wrong in both directions.

    Args:
        y: outcomes, (n,).
        x: covariates of the mean, (n, k).
        precision: covariates of log(phi), (n, q); phi is constant unless given (Smithson &
            Verkuilen 2006).
        link: one of :data:`analysis.regression.g_computation.LINKS`.
        information: of the standard errors: expected, as R's betareg reports, or observed. Robust
            errors are not offered, as statsmodels gives HC0 under each robust name.

    Raises:
        ValueError: an unknown link or information.
        NotEstimable: an outcome is not strictly between 0 and 1, or the fit does not converge.
    """
    if not np.all((y > 0) & (y < 1)):  # also catches NaN; statsmodels only asserts
        raise NotEstimable("Beta regression needs every outcome strictly between 0 and 1")
    if information not in _INFORMATION:
        raise ValueError(
            f"information must be one of {', '.join(_INFORMATION)}, got {information!r}; for HC2 "
            "errors use analysis.inference.difference_in_means"
        )
    from statsmodels.othermod.betareg import BetaModel

    model = BetaModel(y, x, exog_precision=precision, link=link_of(link))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about convergence, which is judged by the score below
        start = model.fit(method="bfgs", disp=False)
        options = {"method": "newton", "cov_type": _INFORMATION[information], "disp": False}
        fit = model.fit(start_params=start.params, **options)
    score = float(np.abs(model.score(fit.params)).max())
    if not score < _MAX_SCORE:
        raise NotEstimable(f"the Beta likelihood did not converge (largest score {score:.2g})")
    covariance, k = np.asarray(fit.cov_params()), x.shape[1]
    return BetaFit(
        coefficients=np.asarray(fit.params[:k]),
        covariance=covariance[:k, :k],
        precision_coefficients=np.asarray(fit.params[k:]),
        precision_covariance=covariance[k:, k:],
        loglik=float(fit.llf),
        n=len(y),
        score=score,
        link=link,
        information=information,
    )


def precision_test(
    y: np.ndarray, x: np.ndarray, precision: np.ndarray, *, link: str = "logit"
) -> LikelihoodRatio:
    """Test a constant phi against precision covariates (n, q), one of which is the constant."""
    wide, narrow = fit_beta(y, x, precision=precision, link=link), fit_beta(y, x, link=link)
    statistic, df = 2 * (wide.loglik - narrow.loglik), precision.shape[1] - 1
    return LikelihoodRatio(statistic=statistic, df=df, p=float(stats.chi2.sf(statistic, df)))


def quantile_residuals(fit: BetaFit, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the quantile residuals (n,) of a fit with one phi: standard normal if it holds.

    Dunn & Smyth (1996): the standard normal quantile of each outcome's fitted probability.
    """
    mean = link_of(fit.link).inverse(x @ fit.coefficients)
    return stats.norm.ppf(stats.beta(mean * fit.phi, (1 - mean) * fit.phi).cdf(y))


def beta_effect(
    units: pd.DataFrame,
    outcome: str,
    *,
    arm: str,
    against: str,
    level: float = 0.95,
    link: str = "logit",
) -> BetaEffect:
    """Estimate the effect of ``arm`` by Beta regression on arm and block indicators.

    The effect in percentage points is averaged over the units of both arms.

    Raises:
        ValueError: the table is not one row a unit, or the link is unknown.
        NotEstimable: an outcome is missing or exactly 0 or 1 (the units are named), an arm has
            fewer than two units or does not vary, too few units, or no convergence.
    """
    table = two_arm_table(units, outcome, arm=arm, against=against)
    y = table[outcome].to_numpy(dtype=float)
    _check_support(table, outcome, y)
    x = design_matrix(table, arm)
    if len(y) <= x.shape[1]:
        raise NotEstimable(f"{len(y)} units do not suffice for {x.shape[1]} coefficients")
    fit = fit_beta(y, x, link=link)
    estimate, se = average_effect(link_of(link), fit.coefficients, fit.covariance, x)
    n, k = x.shape
    half = stats.norm.ppf((1 + level) / 2) * se
    small_half = stats.t.ppf((1 + level) / 2, n - k) * se * np.sqrt(n / (n - k))
    scale = unit_of(outcome).scale
    low, high, small_low, small_high = (
        end
        for h in (half, small_half)
        for end in clip_difference(
            scale * float(estimate - h), scale * float(estimate + h), outcome
        )
    )
    residuals = quantile_residuals(fit, y, x)
    wald = fit.coefficients[0] / fit.se[0]
    return BetaEffect(
        arm=arm,
        against=against,
        outcome=outcome,
        coefficient=float(fit.coefficients[0]),
        se=float(fit.se[0]),
        z=float(wald),
        p=float(2 * stats.norm.sf(abs(wald))),
        odds_ratio=float(np.exp(fit.coefficients[0])) if link == "logit" else None,
        phi=fit.phi,
        loglik=fit.loglik,
        n=n,
        estimate=scale * estimate,
        estimate_se=scale * se,
        low=low,
        high=high,
        small_sample_low=small_low,
        small_sample_high=small_high,
        level=level,
        link=link,
        largest_residual=float(residuals[np.argmax(np.abs(residuals))]),
        largest_unit=str(table["unit_id"].iloc[int(np.argmax(np.abs(residuals)))]),
        precision=_precision_by_arm(y, x, link),
    )


def _check_support(table: pd.DataFrame, outcome: str, y: np.ndarray) -> None:
    """Raise NotEstimable for an outcome of 0 or 1, or an arm whose outcomes are all equal."""
    at_bound = table["unit_id"][(y <= 0) | (y >= 1)]
    if len(at_bound):
        raise NotEstimable(
            f"Beta regression is undefined at 0 and 1: {outcome} of {list_names(at_bound)}"
        )
    constant = [
        arm for arm in table["arm"].unique() if np.ptp(y[(table["arm"] == arm).to_numpy()]) == 0
    ]
    if constant:
        raise NotEstimable(
            f"all units of {', '.join(map(str, constant))} have the same {outcome}, "
            "so a Beta precision cannot be estimated; are the seeds of the runs distinct?"
        )


def _precision_by_arm(y: np.ndarray, x: np.ndarray, link: str) -> LikelihoodRatio | None:
    """Test that both arms have one precision; None where that fit does not converge."""
    try:
        return precision_test(y, x, np.column_stack([np.ones(len(y)), x[:, 0]]), link=link)
    except (NotEstimable, np.linalg.LinAlgError):
        return None
