"""Power, size and coverage of a design: simulated campaigns, analysed as the report does.

``control`` and ``treatment`` are expected outcomes (fractions). The outcome of a unit is drawn from
a Beta distribution of that mean and ``precision``, with variance mean (1 - mean) / (1 + precision),
or resampled from the units of a pilot. ``reconstructions`` adds binomial noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.inference.difference import difference_in_means, difference_p
from analysis.inference.group_sequential import Look
from analysis.inference.randomisation import randomisation_p, randomisation_test
from analysis.inference.reallocation import Reallocation, smallest_p
from analysis.inference.table_checks import NotEstimable
from analysis.planning.simulated_outcomes import (
    AGAINST,
    ARM,
    draw_outcomes,
    pilot_deviations,
    unit_frame,
)
from analysis.schema.columns import unit_of

_CHUNK = 20_000_000  # statistics held in memory at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class Power:
    """Simulated properties of a design; each share has its Monte Carlo standard error."""

    blocks: int
    per_arm: tuple[int, int]  # in each block, treatment and control
    units: int  # of both arms
    trials: int  # simulated
    effect: float  # true effect of the simulation, percentage points
    power: float  # share of trials in which the report would show an effect
    power_se: float
    size: float  # the same share without an effect (outcomes of the control in both arms)
    size_se: float
    coverage: float  # share of intervals that contain the effect
    coverage_se: float
    width: float  # mean width of the interval, percentage points
    smallest_p: float  # attainable by the design
    alpha: float

    @property
    def hopeless(self) -> bool:
        """Tell whether no data of this design could give p <= alpha."""
        return self.smallest_p > self.alpha

    def __str__(self) -> str:
        warning = "; no data can be significant, the" if self.hopeless else ", the"
        design = f"{self.blocks} blocks x {self.per_arm[0]} + {self.per_arm[1]}"
        return (
            f"{self.units} units ({design}): power {self.power:.1%} (Monte Carlo SE "
            f"{self.power_se:.1%}) for {self.effect:+.3g} pp, size {self.size:.1%} (SE "
            f"{self.size_se:.1%}), {1 - self.alpha:.0%} interval {self.width:.3g} pp wide, covers "
            f"{self.coverage:.1%} (SE {self.coverage_se:.1%}){warning} smallest p is "
            f"{self.smallest_p:.2g}"
        )


def simulate(
    *,
    blocks: int,
    per_arm: int | tuple[int, int],
    control: float,
    treatment: float,
    precision: float = 60.0,
    treatment_precision: float | None = None,
    block_sd: float = 0.0,
    reconstructions: int | None = None,
    failure_rate: float = 0.0,
    pilot: pd.DataFrame | None = None,
    outcome: str = "standard/att_acc_1",
    alpha: float = 0.05,
    looks: tuple[Look, ...] = (),
    trials: int = 1000,
    seed: int = 0,
) -> Power:
    """Simulate ``trials`` campaigns of two arms and analyse each as the report does.

    Args:
        blocks: number of blocks.
        per_arm: units of each arm in every block, or those of the treatment and of the control.
        control, treatment: expected outcomes, in (0, 1).
        precision: Beta precision, of the treatment too unless ``treatment_precision`` is given.
        block_sd: standard deviation of block shifts on the logit scale, shared by both arms.
        reconstructions: if given, outcomes are counts out of this number (beta-binomial).
        failure_rate: probability that a unit has no outcome, the same in both arms.
        pilot: unit table of both arms, whose deviations from block means replace Beta draws.
        outcome: column of the pilot, and the unit of the results.
        alpha: two-sided level of the test; intervals have the level 1 - alpha.
        looks: planned looks, the last one at all blocks; a trial shows an effect where p is at most
            the threshold of one of them. Without looks p is compared with alpha at the end.
        trials, seed: number of simulated campaigns, and seed of all draws.

    Raises:
        ValueError: an expected outcome is outside (0, 1), the design has fewer than two units an
            arm, or the pilot lacks two units of an arm in a block.
    """
    each = (per_arm, per_arm) if isinstance(per_arm, int) else per_arm
    _check_plan(blocks, each, control, treatment, precision, failure_rate)
    generator = np.random.default_rng(seed)
    frame = unit_frame(blocks, each)
    spread = (precision, precision if treatment_precision is None else treatment_precision)
    deviations = None if pilot is None else pilot_deviations(pilot, outcome)

    def draw(mean: float) -> np.ndarray:
        return draw_outcomes(
            frame,
            (control, mean),
            spread if mean != control else (precision, precision),
            generator,
            trials=trials,
            block_sd=block_sd,
            reconstructions=reconstructions,
            deviations=deviations,
        )

    lost = generator.uniform(size=(len(frame), trials)) < failure_rate
    found, shares = [], []
    for mean in (treatment, control):
        y = draw(mean)
        found.append(_analyse(frame, y, lost, alpha, seed, intervals=mean == treatment))
        shares.append(float(np.mean(_shown(frame, y, lost, found[-1].p, looks, alpha, seed))))
    effect = unit_of(outcome).scale * (treatment - control)
    return _summarise(found[0], shares, blocks, each, effect=effect, alpha=alpha)


@dataclass(frozen=True, slots=True)
class _Analysed:
    """Results of all simulated trials, (trials,) each."""

    p: np.ndarray  # the larger p of both tests; 1 where not estimable
    low: np.ndarray  # of the interval, printed unit; NaN where there is none
    high: np.ndarray


def _shown(
    frame: pd.DataFrame,
    y: np.ndarray,
    lost: np.ndarray,
    p: np.ndarray,
    looks: tuple[Look, ...],
    alpha: float,
    seed: int,
) -> np.ndarray:
    """Return whether each trial shows an effect, at a look or at the end, where p is ``p``."""
    if not looks:
        return p <= alpha
    shown, block = p <= looks[-1].threshold, pd.factorize(frame["block"])[0]
    for look in looks[:-1]:
        rows = block < look.blocks
        early = frame.loc[rows].reset_index(drop=True)
        shown |= _analyse(early, y[rows], lost[rows], alpha, seed, intervals=False).p <= (
            look.threshold
        )
    return shown


def _summarise(
    with_effect: _Analysed,
    shares: list[float],
    blocks: int,
    per_arm: tuple[int, int],
    *,
    effect: float,
    alpha: float,
) -> Power:
    """Return the shares and the mean width over the simulated trials.

    ``shares`` of the trials show an effect where there is one, and where there is none.
    """
    low, high, trials = with_effect.low, with_effect.high, len(with_effect.p)
    covered = ((low <= effect) & (effect <= high))[np.isfinite(low)]
    power, size = shares
    coverage = float(np.mean(covered)) if len(covered) else float("nan")
    return Power(
        blocks=blocks,
        per_arm=per_arm,
        units=blocks * sum(per_arm),
        trials=trials,
        effect=effect,
        power=power,
        power_se=_share_se(power, trials),
        size=size,
        size_se=_share_se(size, trials),
        coverage=coverage,
        coverage_se=_share_se(coverage, trials),
        width=float(np.mean((high - low)[np.isfinite(low)])) if len(covered) else float("nan"),
        smallest_p=smallest_p([per_arm] * blocks),
        alpha=alpha,
    )


def _check_plan(
    blocks: int,
    per_arm: tuple[int, int],
    control: float,
    treatment: float,
    precision: float,
    failure: float,
) -> None:
    """Raise ValueError for a design or an assumption that cannot be simulated."""
    for name, value in (("control", control), ("treatment", treatment)):
        if not 0 < value < 1:
            raise ValueError(f"{name} is an expected fraction in (0, 1), got {value:g}")
    if blocks < 1 or min(per_arm) < 1 or blocks * min(per_arm) < 2:
        raise ValueError(f"a design needs 2 units an arm or more, got {blocks} x {min(per_arm)}")
    if not (precision > 0 and 0 <= failure < 1):
        raise ValueError(f"need precision > 0, failure_rate in [0, 1), got {precision}, {failure}")


def _analyse(
    frame: pd.DataFrame,
    y: np.ndarray,
    lost: np.ndarray,
    alpha: float,
    seed: int,
    *,
    intervals: bool = True,
) -> _Analysed:
    """Analyse every trial; trials without a lost unit share one set of reallocations.

    ``y`` and ``lost`` are (units, trials). Without ``intervals``, only trials with a lost unit have
    one.
    """
    trials = y.shape[1]
    p, low, high = np.ones(trials), np.full(trials, np.nan), np.full(trials, np.nan)
    pair = {"arm": ARM, "against": AGAINST, "level": 1 - alpha}
    names = [f"trial {i}" for i in range(trials)]
    table = pd.concat([frame, pd.DataFrame(y, columns=names)], axis=1)
    whole = [i for i in range(trials) if not lost[:, i].any()]
    z, block = (frame["arm"] == ARM).to_numpy(dtype=float), pd.factorize(frame["block"])[0]
    reallocation = Reallocation(z=z, block=block, seed=seed)
    step = max(1, _CHUNK // (reallocation.draws or reallocation.allocations))
    for start in range(0, len(whole), step):
        chosen = whole[start : start + step]
        p[chosen] = randomisation_p(frame, y[:, chosen], arm=ARM, seed=seed)
        p[chosen] = np.maximum(p[chosen], difference_p(frame, y[:, chosen], arm=ARM))
    for i in range(trials):
        partial = lost[:, i].any()
        if not (intervals or partial):
            continue
        finished = table.loc[~lost[:, i], ["unit_id", "block", "arm", names[i]]]
        try:
            d = difference_in_means(finished, names[i], **pair)
            low[i], high[i] = d.low, d.high
            if partial:
                p[i] = randomisation_test(finished, names[i], **pair, seed=seed).p
            p[i] = max(d.p, p[i])
        except NotEstimable:
            p[i] = 1.0  # counts as not significant and has no interval
    return _Analysed(p, low, high)


def _share_se(share: float, trials: int) -> float:
    """Return the Monte Carlo standard error of a share.

    A share of 0 or 1 has that of one trial.
    """
    inside = min(max(share, 1 / trials), 1 - 1 / trials)
    return float(np.sqrt(inside * (1 - inside) / trials))
