"""Chance of each verdict on a claim: simulated trials, judged by the rule of the report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.claims import judge
from analysis.claims.rule import CONTRADICTED, SUPPORTED, UNDECIDED

VERDICTS = (SUPPORTED, CONTRADICTED, UNDECIDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Chances:
    """Shares of simulated trials by verdict."""

    shares: dict[str, float]  # by verdict
    trials: int

    def se(self, verdict: str) -> float:
        """Return the Monte Carlo standard error of a share; that of one trial at 0 and 1."""
        share = min(max(self.shares[verdict], 1 / self.trials), 1 - 1 / self.trials)
        return (share * (1 - share) / self.trials) ** 0.5


def verdict_chances(
    frame: pd.DataFrame,
    protocol: dict[str, Any],
    name: str,
    means: dict[str, dict[str, float]],
    *,
    spread: dict[str, float],
    correlation: float,
    trials: int,
    seed: int,
) -> Chances:
    """Simulate trials under a stated truth and judge the claim in each.

    Outcomes of a unit are Beta distributed with the mean of its arm, joined by a Gaussian copula.
    Where a spread is too large for a Beta distribution of a mean near 0 or 1, it is reduced to that
    of Beta precision 1.

    Args:
        frame: one row a unit: ``unit_id``, ``block`` and ``arm``.
        protocol: as JSON types.
        name: of the claim.
        means: by arm, the expected outcomes as fractions; other arms are left out.
        spread: standard deviation of each outcome between units of an arm, as a fraction.
        correlation: of the outcomes of a unit, of the copula.
        trials: that are simulated.
        seed: of all draws.
    """
    generator = np.random.default_rng(seed)
    units = frame.loc[frame["arm"].isin(list(means))].reset_index(drop=True)
    columns = list(dict.fromkeys(column for outcomes in means.values() for column in outcomes))
    centre = np.array([[means[arm][column] for column in columns] for arm in units["arm"]])
    sd = np.minimum([spread[column] for column in columns], np.sqrt(centre * (1 - centre) / 2))
    precision = centre * (1 - centre) / sd**2 - 1
    joint = np.full((len(columns), len(columns)), correlation) + (1 - correlation) * np.eye(
        len(columns)
    )
    level, found = 1 - protocol["alpha"], Counter[str]()
    for _ in range(trials):
        normal = generator.multivariate_normal(np.zeros(len(columns)), joint, size=len(units))
        values = stats.beta.ppf(
            stats.norm.cdf(normal), centre * precision, (1 - centre) * precision
        )
        drawn = pd.concat([units, pd.DataFrame(values, columns=columns)], axis=1)
        found[judge(drawn, protocol, name, level=level).verdict] += 1
    return Chances(shares={v: found[v] / trials for v in VERDICTS}, trials=trials)
