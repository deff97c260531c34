"""Instruments and mediation: does an effect on leakage act through robust accuracy?

The arm is randomised, robust accuracy is not. Every number here except the two effects of the arm
rests on assumptions that no data of the trial can establish. Each result lists its assumptions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.inference.difference import Difference, difference_in_means, two_arm_table
from analysis.inference.ols import block_indicators, ols
from analysis.inference.table_checks import NotEstimable, outcome_values
from analysis.regression.fieller import ConfidenceSet, fieller, quadratic_set
from analysis.schema.columns import unit_of

ROUNDING = 1e-9  # points; smaller effects count as 0
WALD_ASSUMES = (
    "relevance: the arm changes the mediator (its F is shown; below about 10 it is weak)",
    "independence: the arm was drawn at random (by design)",
    "exclusion: the arm changes leakage through this mediator only (doubtful: it also moves clean "
    "accuracy, robust accuracy at other radii and the features themselves)",
    "linearity: a point of the mediator changes leakage by the same amount everywhere",
)
MEDIATION_ASSUMES = (
    "no unmeasured cause of both the mediator and leakage (not established by randomising the arm)",
    "no interaction of arm and mediator, and a linear relation",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class WaldRatio:
    """Effect of the arm on leakage over its effect on the mediator, both in points."""

    leakage: Difference
    mediator: Difference
    ratio: float  # points of leakage for one point of the mediator
    anderson_rubin: ConfidenceSet  # keeps its level however weak the first stage is
    first_stage_f: float
    ols_slope: float  # not randomised, for contrast
    assumes: tuple[str, ...] = WALD_ASSUMES

    def __str__(self) -> str:
        return (
            f"{self.leakage.outcome} on {self.mediator.outcome}: {self.ratio:+.3g} points for one "
            f"point, Anderson-Rubin {self.anderson_rubin.level:.0%} set {self.anderson_rubin}; "
            f"first-stage F {self.first_stage_f:.3g}, least-squares slope {self.ols_slope:+.3g}; "
            "assuming " + "; ".join(self.assumes)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoStage:
    """Two-stage least squares with arms as instruments, in points of leakage for one point."""

    mediators: tuple[str, ...]
    instruments: int
    coefficients: tuple[float, ...]  # by mediator, as the two below
    se: tuple[float, ...]  # assuming equal variances
    first_stage_f: tuple[float, ...]
    anderson_rubin: ConfidenceSet | None  # None with several mediators
    sargan: float | None  # None unless instruments outnumber mediators
    sargan_p: float | None
    assumes: tuple[str, ...] = WALD_ASSUMES

    def __str__(self) -> str:
        terms = ", ".join(
            f"{m} {b:+.3g} (SE {s:.3g}, F {f:.3g})"
            for m, b, s, f in zip(
                self.mediators, self.coefficients, self.se, self.first_stage_f, strict=True
            )
        )
        over = "" if self.sargan is None else f"; Sargan J {self.sargan:.3g}, p {self.sargan_p:.3g}"
        return f"2SLS with {self.instruments} instruments: {terms}{over}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mediation:
    """Split of an effect by the product of coefficients, in percentage points."""

    indirect: float
    indirect_low: float
    indirect_high: float
    direct: float
    total: float
    rho_zero: float  # error correlation by unmeasured causes at which the indirect effect is zero
    level: float
    assumes: tuple[str, ...] = MEDIATION_ASSUMES

    def __str__(self) -> str:
        return (
            f"indirect {self.indirect:+.3g} pp ({self.level:.0%} {self.indirect_low:+.3g} to "
            f"{self.indirect_high:+.3g}), direct {self.direct:+.3g}, total {self.total:+.3g}; "
            f"indirect is zero at rho = {self.rho_zero:+.2f}; assuming " + "; ".join(self.assumes)
        )


def wald_ratio(
    units: pd.DataFrame,
    leakage: str,
    mediator: str,
    *,
    arm: str,
    against: str,
    level: float = 0.95,
) -> WaldRatio:
    """Divide the effect of ``arm`` on leakage by its effect on the mediator (Wald 1940).

    Anderson & Rubin (1949): the set holds each ratio r for which no effect of the arm on
    leakage - r mediator is shown at the level. With the Neyman errors of the differences it is
    Fieller's set.

    Raises:
        NotEstimable: the arms have the same mean of the mediator, or an effect is not estimable.
    """
    pair = {"arm": arm, "against": against, "level": level}
    of_y = difference_in_means(units, leakage, **pair)
    of_r = difference_in_means(units, mediator, **pair)
    if abs(of_r.estimate) < ROUNDING:
        raise NotEstimable(
            f"{mediator} has the same mean in {arm} and {against}, so the ratio is undefined"
        )
    table = two_arm_table(units, leakage, arm=arm, against=against)
    y = unit_of(leakage).scale * outcome_values(table, leakage)
    r = unit_of(mediator).scale * outcome_values(table, mediator)
    summed = table.assign(**{"seconds/sum": y + r})  # a duration, so that [0, 1] is not checked
    of_sum = difference_in_means(summed, "seconds/sum", **pair)
    covariance = (of_sum.se**2 - of_y.se**2 - of_r.se**2) / 2
    block = block_indicators(pd.factorize(table["block"])[0])
    slope = ols(y, np.column_stack([r, block])).coefficients[0]
    return WaldRatio(
        leakage=of_y,
        mediator=of_r,
        ratio=of_y.estimate / of_r.estimate,
        anderson_rubin=fieller(
            of_y.estimate,
            of_r.estimate,
            variances=(of_y.se**2, of_r.se**2),
            covariance=covariance,
            critical=float(stats.t.ppf((1 + level) / 2, min(of_y.df, of_r.df))),
            level=level,
        ),
        first_stage_f=(of_r.estimate / of_r.se) ** 2,
        ols_slope=float(slope),
    )


def two_stage(
    units: pd.DataFrame,
    leakage: str,
    mediators: list[str],
    *,
    arms: list[str],
    level: float = 0.95,
) -> TwoStage:
    """Regress leakage on mediators by two-stage least squares, with the arms as instruments.

    Instruments are indicators of all ``arms`` but the first, which is the reference. Block means
    are subtracted from every variable.

    Raises:
        NotEstimable: there are fewer instruments than mediators, the arms do not move the mediators
            apart from each other, leakage does not vary within blocks, or a value is missing.
    """
    instruments = len(arms) - 1
    if instruments < len(mediators):
        raise NotEstimable(
            f"{len(mediators)} mediators need {len(mediators)} instruments or more; "
            f"{len(arms)} arms give {instruments}, so their effects are not identified"
        )
    table = units.loc[units["arm"].isin(arms)]
    for other in arms[1:]:
        for column in (leakage, *mediators):
            two_arm_table(table, column, arm=other, against=arms[0])
    block = block_indicators(pd.factorize(table["block"])[0])
    y = unit_of(leakage).scale * outcome_values(table, leakage)
    r = np.column_stack([unit_of(m).scale * outcome_values(table, m) for m in mediators])
    z = np.column_stack([(table["arm"] == a).to_numpy(dtype=float) for a in arms[1:]])
    y, r, z = (v - block @ np.linalg.lstsq(block, v, rcond=None)[0] for v in (y, r, z))
    fitted = z @ np.linalg.lstsq(z, r, rcond=None)[0]
    if np.linalg.matrix_rank(np.where(np.abs(fitted) < ROUNDING, 0.0, fitted)) < len(mediators):
        raise NotEstimable(f"the arms do not move {' and '.join(mediators)} apart from each other")
    if np.abs(y).max() < ROUNDING:
        raise NotEstimable(f"{leakage} does not vary within blocks")
    df = len(y) - block.shape[1] - len(mediators)
    first_df = len(y) - block.shape[1] - instruments
    coefficients = np.linalg.solve(fitted.T @ r, fitted.T @ y)
    residual = y - r @ coefficients
    covariance = np.linalg.inv(fitted.T @ fitted) * float(residual @ residual) / df
    unexplained = np.sum((r - fitted) ** 2, axis=0) / first_df
    explained = z @ np.linalg.lstsq(z, residual, rcond=None)[0]
    over = instruments - len(mediators)
    left = float(residual @ residual)
    sargan = len(y) * float(explained @ explained) / left if left else 0.0
    return TwoStage(
        mediators=tuple(mediators),
        instruments=instruments,
        coefficients=tuple(map(float, coefficients)),
        se=tuple(map(float, np.sqrt(np.diag(covariance)))),
        first_stage_f=tuple(map(float, np.sum(fitted**2, axis=0) / instruments / unexplained)),
        anderson_rubin=_anderson_rubin(y, r[:, 0], z, first_df, level) if r.shape[1] == 1 else None,
        sargan=sargan if over else None,
        sargan_p=float(stats.chi2.sf(sargan, over)) if over else None,
    )


def _anderson_rubin(
    y: np.ndarray, r: np.ndarray, z: np.ndarray, df: int, level: float
) -> ConfidenceSet:
    """Invert the F test that instruments z explain nothing of y - beta r.

    The inequality is quadratic in beta.
    """
    k = z.shape[1]
    critical = k * float(stats.f.ppf(level, k, df)) / df

    def form(a: np.ndarray, b: np.ndarray) -> float:
        explained = z @ np.linalg.lstsq(z, a, rcond=None)[0]
        return float(explained @ b - critical * (a - explained) @ b)

    return quadratic_set(form(r, r), -2 * form(r, y), form(y, y), level)


def mediation(
    units: pd.DataFrame,
    leakage: str,
    mediator: str,
    *,
    arm: str,
    against: str,
    level: float = 0.95,
) -> Mediation:
    """Split the effect of ``arm`` into a path through the mediator and the rest.

    Product of coefficients with Sobel's (1982) error, with block indicators. ``rho_zero`` after
    Imai, Keele & Tingley (2010), Theorem 2: the correlation of the errors of mediator and leakage
    at which the indirect effect is zero.

    Raises:
        NotEstimable: a value is missing, an arm has fewer than two units, too few units, or leakage
            or mediator does not vary within arms and blocks.
    """
    table = two_arm_table(units, leakage, arm=arm, against=against)
    y = unit_of(leakage).scale * outcome_values(table, leakage)
    r = unit_of(mediator).scale * outcome_values(table, mediator)
    z = (table["arm"] == arm).to_numpy(dtype=float)
    block = block_indicators(pd.factorize(table["block"])[0])
    first, total = (ols(v, np.column_stack([z, block])) for v in (r, y))
    if min(np.ptp(first.residuals), np.ptp(total.residuals)) <= 1e-9:
        raise NotEstimable(
            f"{leakage} or {mediator} does not vary within arms and blocks, so the path through "
            "the mediator cannot be told from the rest"
        )
    second = ols(y, np.column_stack([z, r, block]))
    a, b = first.coefficients[0], second.coefficients[1]
    se = np.sqrt(a**2 * second.covariance[1, 1] + b**2 * first.covariance[0, 0])
    half = float(stats.t.ppf((1 + level) / 2, second.df)) * float(se)
    return Mediation(
        indirect=float(a * b),
        indirect_low=float(a * b) - half,
        indirect_high=float(a * b) + half,
        direct=float(second.coefficients[0]),
        total=float(total.coefficients[0]),
        rho_zero=float(np.corrcoef(first.residuals, total.residuals)[0, 1]),
        level=level,
    )
