"""Outcomes of simulated campaigns of two arms, for :mod:`analysis.planning.power`."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.inference.table_checks import check_units

ARM, AGAINST = "treatment", "control"


def unit_frame(blocks: int, per_arm: tuple[int, int]) -> pd.DataFrame:
    """Return a table with one row a unit and the columns ``unit_id``, ``block`` and ``arm``.

    ``per_arm`` holds the numbers of units of ARM and of AGAINST in each block.
    """
    rows = [
        (f"b{b}/{arm}/{i}", f"b{b}", arm)
        for b in range(blocks)
        for arm, count in zip((ARM, AGAINST), per_arm, strict=True)
        for i in range(count)
    ]
    return pd.DataFrame(rows, columns=["unit_id", "block", "arm"]).astype(object)


def pilot_deviations(pilot: pd.DataFrame, outcome: str) -> tuple[np.ndarray, np.ndarray]:
    """Return deviations from block means of AGAINST and of ARM, in this order.

    Those of a block of n units are multiplied by sqrt(n / (n - 1)), so that their variance is
    unbiased.

    Raises:
        ValueError: the table is not one row a unit, or no block holds two units of an arm.
    """
    check_units(pilot, outcome)
    found: list[np.ndarray] = []
    for arm in (AGAINST, ARM):
        rows = pilot.loc[(pilot["arm"] == arm) & pilot[outcome].notna()]
        parts = [
            (v - v.mean()) * np.sqrt(len(v) / (len(v) - 1))
            for _, inside in rows.groupby("block")
            if len(v := inside[outcome].to_numpy(dtype=float)) > 1
        ]
        if not parts:
            raise ValueError(f"a pilot needs two units of {arm} in a block, it has {len(rows)}")
        found.append(np.concatenate(parts))
    return found[0], found[1]


def draw_outcomes(
    frame: pd.DataFrame,
    means: tuple[float, float],
    precisions: tuple[float, float],
    generator: np.random.Generator,
    *,
    trials: int,
    block_sd: float,
    reconstructions: int | None,
    deviations: tuple[np.ndarray, np.ndarray] | None,
) -> np.ndarray:
    """Draw outcomes, (units, trials).

    Args:
        frame: from :func:`unit_frame`.
        means: expected outcomes of AGAINST and of ARM.
        precisions: Beta precisions of AGAINST and of ARM.
        generator: of all draws.
        trials: number of campaigns.
        block_sd: standard deviation of block shifts on the logit scale.
        reconstructions: if given, outcomes are binomial counts over this number.
        deviations: from :func:`pilot_deviations`; if given, they are resampled in place of Beta
            draws.
    """
    arm = (frame["arm"] == ARM).to_numpy(dtype=int)
    block = pd.factorize(frame["block"])[0]
    shift = block_sd * generator.normal(size=(block.max() + 1, trials))[block]
    base = np.array(means)[arm][:, None]
    mean = 1 / (1 + (1 - base) / base * np.exp(-shift))
    if deviations is not None:
        extra = np.where(
            arm[:, None] == 1,
            generator.choice(deviations[1], size=mean.shape),
            generator.choice(deviations[0], size=mean.shape),
        )
        y = np.clip(mean + extra, 0, 1)
    else:
        phi = np.array(precisions)[arm][:, None]
        y = generator.beta(mean * phi, (1 - mean) * phi)
    return (
        y if reconstructions is None else generator.binomial(reconstructions, y) / reconstructions
    )
