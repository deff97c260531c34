"""Corrections for several outcomes or several arms.

Max-T bounds the probability of any false rejection over several outcomes, Dunnett over several arms
that are compared with one. Benjamini-Hochberg bounds the expected share of false rejections and is
for exploratory tables only.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import root_scalar

from analysis.inference.blocked_means import block_weights
from analysis.inference.difference import two_arm_table
from analysis.inference.ols import block_indicators, ols
from analysis.inference.reallocation import Reallocation
from analysis.inference.table_checks import NotEstimable
from analysis.schema.columns import clip_difference, unit_of


@dataclass(frozen=True, kw_only=True, slots=True)
class MaxT:
    """Step-down adjusted p-values of several outcomes of one contrast."""

    arm: str
    against: str
    p: dict[str, float]  # by outcome, unadjusted
    adjusted: dict[str, float]  # by outcome
    exact: bool  # whether every allocation was enumerated

    def __str__(self) -> str:
        rows = (f"{o}: p = {self.p[o]:.3g}, adjusted {self.adjusted[o]:.3g}" for o in self.p)
        return f"{self.arm} - {self.against}, max-T over {len(self.p)} outcomes: " + "; ".join(rows)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dunnett:
    """Simultaneous comparison of several arms with one, in the printed unit of the outcome."""

    against: str
    outcome: str
    estimate: dict[str, float]  # by arm, as all below
    p: dict[str, float]  # adjusted
    low: dict[str, float]
    high: dict[str, float]
    level: float  # joint, of all intervals
    df: int

    def __str__(self) -> str:
        rows = (
            f"{a} {self.estimate[a]:+.3g} ({self.low[a]:+.3g} to {self.high[a]:+.3g}), "
            f"p = {self.p[a]:.3g}"
            for a in self.p
        )
        return f"Dunnett against {self.against}, {self.level:.0%}, {self.df} df: " + "; ".join(rows)


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Adjust p-values (m,) for the false discovery rate (Benjamini & Hochberg 1995)."""
    p = np.asarray(p, dtype=float)
    if not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"p-values must be in [0, 1], got {p[~((p >= 0) & (p <= 1))][0]}")
    order = np.argsort(p, kind="stable")[::-1]
    stepped = np.minimum.accumulate(p[order] * len(p) / np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def max_t(units: pd.DataFrame, outcomes: list[str], *, arm: str, against: str, seed: int) -> MaxT:
    """Adjust p for several outcomes by the largest standardised difference of each reallocation.

    Westfall & Young (1993), Algorithm 4.1 (step-down), on the reallocations of the randomisation
    test, sampled from ``seed`` if they are too many. Each difference is divided by its standard
    deviation over the reallocations, so outcomes on any scale weigh alike. Control is strong: a
    reallocation leaves outcomes untouched, so the joint distribution of the true nulls does not
    depend on the false ones.
    """
    table = [two_arm_table(units, o, arm=arm, against=against) for o in outcomes][-1]
    y = table[outcomes].to_numpy(dtype=float)
    z = (table["arm"] == arm).to_numpy(dtype=float)
    block = pd.factorize(table["block"])[0]
    reallocation = Reallocation(z=z, block=block, seed=seed)
    weights = block_weights(z, block)
    centred = y - np.vstack([y[block == b].mean(axis=0) for b in range(len(weights))])[block]
    sums = reallocation.treated_sums(np.column_stack([z, centred]))

    def difference(column: int) -> np.ndarray:
        by_block = [
            w * s[:, column] * n / (k * (n - k))  # outcomes are centred in the block
            for w, s, (n, k) in zip(weights, sums, reallocation.sizes, strict=True)
        ]
        return reallocation.combine(by_block)

    own = int(np.argmax(reallocation.combine([s[:, 0] for s in sums])))  # the observed row
    values = np.column_stack([np.abs(difference(1 + j)) for j in range(len(outcomes))])
    spread = np.sqrt(np.mean(values**2, axis=0))
    values = values / np.where(spread > 1e-12, spread, np.inf)
    order = np.argsort(-values[own], kind="stable")
    single, adjusted, largest = {}, {}, 0.0
    for rank, j in enumerate(order):
        observed = values[own, j] - 1e-9
        single[outcomes[j]] = float(np.mean(values[:, j] >= observed))
        remaining = values[:, order[rank:]].max(axis=1)
        largest = max(largest, float(np.mean(remaining >= observed)))
        adjusted[outcomes[j]] = largest
    return MaxT(
        arm=arm,
        against=against,
        p={o: single[o] for o in outcomes},
        adjusted={o: adjusted[o] for o in outcomes},
        exact=reallocation.exact,
    )


def dunnett(
    units: pd.DataFrame, outcome: str, *, arms: list[str], against: str, level: float = 0.95
) -> Dunnett:
    """Compare several arms with one at one joint level, with block indicators.

    Dunnett (1955) on the least-squares fit. The joint distribution is a multivariate t with the
    correlations of that fit. It is computed by quadrature over one common factor, which assumes
    that all correlations are equal: exact where arms have equal numbers, else with their mean.
    Errors assume equal variances.

    Raises:
        NotEstimable: an arm has fewer than two units or lacks in a block, an outcome is missing, no
            degree of freedom is left, or nothing varies within arms.
    """
    table = units.loc[units["arm"].isin([*arms, against])]
    for arm in arms:
        two_arm_table(table, outcome, arm=arm, against=against)
    blocks = table.groupby("block")["arm"].nunique()
    if (blocks < len(arms) + 1).any():
        raise NotEstimable("Dunnett's test needs every arm in every block")
    indicators = [(table["arm"] == a).to_numpy(dtype=float) for a in arms]
    block = block_indicators(pd.factorize(table["block"])[0])
    y = unit_of(outcome).scale * table[outcome].to_numpy(dtype=float)
    fit = ols(y, np.column_stack([*indicators, block]))
    if not fit.residuals @ fit.residuals > 0:
        raise NotEstimable(f"{outcome} does not vary within arms, so its error is unknown")
    m = len(arms)
    covariance = fit.covariance[:m, :m]
    se = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(se, se)
    rho = float(correlation[~np.eye(m, dtype=bool)].mean()) if m > 1 else 0.0
    critical = _dunnett_critical(level, m, rho, fit.df)
    effects = list(zip(arms, fit.coefficients[:m], se, strict=True))
    bounds = {
        a: clip_difference(float(c - critical * s), float(c + critical * s), outcome)
        for a, c, s in effects
    }
    return Dunnett(
        against=against,
        outcome=outcome,
        estimate={a: float(c) for a, c, _ in effects},
        p={a: _dunnett_tail(float(abs(c / s)), m, rho, fit.df) for a, c, s in effects},
        low={a: ends[0] for a, ends in bounds.items()},
        high={a: ends[1] for a, ends in bounds.items()},
        level=level,
        df=fit.df,
    )


def _dunnett_tail(t: float, m: int, rho: float, df: int) -> float:
    """Return P(max |T_i| > t) of m equicorrelated t variables.

    Given the common error s and the common factor, they are independent. Both are integrated by
    Gauss quadrature. Small s make the tail at few degrees of freedom, so s is divided there.
    """
    edges = sorted({0.0, *(min(1.0, c / max(t, 1e-9)) for c in (2, 10)), 1.0, 3.0, 12.0})
    at, share = np.polynomial.legendre.leggauss(80)
    pieces = [((b - a) / 2 * (at + 1) + a, (b - a) / 2 * share) for a, b in pairwise(edges)]
    s, step = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    nodes, weights = np.polynomial.hermite_e.hermegauss(96)
    shift, width = np.sqrt(rho) * nodes, np.sqrt(1 - rho)
    upper, lower = ((sign * t * s[:, None] - shift) / width for sign in (1, -1))
    outside = np.minimum(stats.norm.sf(upper) + stats.norm.cdf(lower), 1 - 1e-16)
    beyond = -np.expm1(m * np.log1p(-outside)) @ (weights / weights.sum())
    density = stats.chi.pdf(s * np.sqrt(df), df) * np.sqrt(df)
    return min(1.0, float(beyond @ (density * step)))


def _dunnett_critical(level: float, m: int, rho: float, df: int) -> float:
    """Return the t that bounds max |T_i| with probability ``level``; see :func:`_dunnett_tail`."""
    top = 10 * float(stats.t.isf((1 - level) / (2 * m), df))
    return float(
        root_scalar(
            lambda t: _dunnett_tail(t, m, rho, df) - (1 - level), bracket=(0.1, top), xtol=1e-6
        ).root
    )
