"""Plan a campaign: simulate it and let the estimators of the report judge the draws.

    >>> from analysis.planning.power import simulate
    >>> print(simulate(blocks=2, per_arm=4, control=0.90, treatment=0.60, precision=60.0))

``control`` and ``treatment`` are expected outcomes (fractions); the outcome of a unit is drawn from
a Beta of that mean and ``precision`` (variance mean (1 - mean) / (1 + precision)), binomially
blurred by ``reconstructions``, or resampled from the units of a pilot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special, stats

from analysis.inference.difference import difference_in_means, difference_p
from analysis.inference.randomisation_test import randomisation_p, randomisation_test
from analysis.inference.reallocation import Replay, smallest_p
from analysis.inference.table_checks import NotEstimable
from analysis.planning.simulated_outcomes import (
    AGAINST,
    ARM,
    deviations_of,
    draw_outcomes,
    frame_of,
)
from analysis.schema.columns import unit_of

_AT_ONCE = 20_000_000  # statistics held in memory at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class Power:
    """What a design would give. Shares carry a Monte Carlo standard error; widths are in pp."""

    blocks: int
    per_arm: tuple[int, int]  # in each block, treatment and control
    units: int  # of two arms
    trials: int  # simulated
    effect: float  # percentage points, of the simulated model
    power: float  # share of trials in which the report would show an effect
    power_se: float
    size: float  # the same without an effect (the outcomes of the control in both arms)
    size_se: float
    coverage: float  # share of intervals that hold the effect
    coverage_se: float
    width: float  # mean length of the interval, pp
    smallest_p: float  # attainable by the design
    alpha: float

    @property
    def hopeless(self) -> bool:
        """Whether no data of this design could give a p of at most alpha."""
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
    trials: int = 1000,
    seed: int = 0,
) -> Power:
    """Simulate ``trials`` campaigns of two arms and analyse each as the report does.

    Args:
        blocks, per_arm: the design; ``per_arm`` units of each arm in every block, or a pair: of
            the treatment and of the control.
        control, treatment: expected outcomes, in (0, 1).
        precision: Beta precision of the units, of the treatment too unless given apart.
        block_sd: of block shifts on the logit scale, shared by both arms.
        reconstructions: outcomes are k of so many (beta-binomial) instead of continuous.
        failure_rate: probability that a unit has no outcome, the same in both arms.
        pilot: unit table with the arms ``control`` and ``treatment``: deviations from the arm's
            mean are resampled around the given means, instead of drawing from a Beta.

    Raises:
        ValueError: a mean outside (0, 1), a design without units, or a pilot without these arms.
    """
    each = (per_arm, per_arm) if isinstance(per_arm, int) else per_arm
    _check(blocks, each, control, treatment, precision, failure_rate)
    generator = np.random.default_rng(seed)
    frame = frame_of(blocks, each)
    spread = (precision, precision if treatment_precision is None else treatment_precision)
    deviations = None if pilot is None else deviations_of(pilot, outcome)

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
    with_effect = _judge(frame, draw(treatment), lost, alpha, seed)
    without = _judge(frame, draw(control), lost, alpha, seed, intervals=False)
    effect = unit_of(outcome).scale * (treatment - control)
    return _power(with_effect, without, blocks, each, effect=effect, alpha=alpha)


def units_for_width(
    width: float,
    *,
    blocks: int,
    control: float,
    treatment: float,
    precision: float = 60.0,
    level: float = 0.95,
) -> int:
    """Return units an arm and block for a mean interval of at most ``width`` percentage points.

    From E[2 t(df) s sqrt(2 / n)] with the Beta's variances and E[s] of a normal sample; check the
    answer with :func:`simulate`.
    """
    if not width > 0:
        raise ValueError(f"a width is a positive number of percentage points, got {width:g}")
    variances = [m * (1 - m) / (1 + precision) for m in (control, treatment)]
    for n in range(2, 5001):
        df = 2 * blocks * (n - 1)
        bias = np.sqrt(2 / df) * np.exp(special.gammaln((df + 1) / 2) - special.gammaln(df / 2))
        half = float(stats.t.ppf((1 + level) / 2, df) * bias)
        if 100 * 2 * half * np.sqrt(sum(variances) / (n * blocks)) <= width:
            return n
    raise ValueError(f"an interval of {width:g} pp needs more than 5,000 units an arm and block")


@dataclass(frozen=True, slots=True)
class _Judged:
    p: np.ndarray
    low: np.ndarray
    high: np.ndarray


def _power(
    with_effect: _Judged,
    without: _Judged,
    blocks: int,
    per_arm: tuple[int, int],
    *,
    effect: float,
    alpha: float,
) -> Power:
    """Count what the judged trials showed."""
    low, high, trials = with_effect.low, with_effect.high, len(with_effect.p)
    covered = ((low <= effect) & (effect <= high))[np.isfinite(low)]
    power = float(np.mean(with_effect.p <= alpha))
    size = float(np.mean(without.p <= alpha))
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


def _check(
    blocks: int,
    per_arm: tuple[int, int],
    control: float,
    treatment: float,
    precision: float,
    failure: float,
) -> None:
    for name, value in (("control", control), ("treatment", treatment)):
        if not 0 < value < 1:
            raise ValueError(f"{name} is an expected fraction in (0, 1), got {value:g}")
    if blocks < 1 or min(per_arm) < 1 or blocks * min(per_arm) < 2:
        raise ValueError(f"a design needs 2 units an arm or more, got {blocks} x {min(per_arm)}")
    if not (precision > 0 and 0 <= failure < 1):
        raise ValueError(f"need precision > 0, failure_rate in [0, 1), got {precision}, {failure}")


def _judge(
    frame: pd.DataFrame,
    y: np.ndarray,
    lost: np.ndarray,
    alpha: float,
    seed: int,
    *,
    intervals: bool = True,
) -> _Judged:
    """Analyse every trial; whole ones share one replay of the allocation."""
    trials = y.shape[1]
    p, low, high = np.ones(trials), np.full(trials, np.nan), np.full(trials, np.nan)
    pair = {"arm": ARM, "against": AGAINST, "level": 1 - alpha}
    names = [f"trial {i}" for i in range(trials)]
    table = pd.concat([frame, pd.DataFrame(y, columns=names)], axis=1)
    whole = [i for i in range(trials) if not lost[:, i].any()]
    z, block = (frame["arm"] == ARM).to_numpy(dtype=float), pd.factorize(frame["block"])[0]
    replay = Replay(z=z, block=block, seed=seed)
    single = any(min(k, n - k) < 2 for n, k in replay.sizes)
    step = max(1, _AT_ONCE // (replay.draws or replay.allocations))
    for start in range(0, len(whole), step):
        chosen = whole[start : start + step]
        p[chosen] = randomisation_p(frame, y[:, chosen], arm=ARM, seed=seed)
        if not single:
            p[chosen] = np.maximum(p[chosen], difference_p(frame, y[:, chosen], arm=ARM))
    for i in range(trials):
        partial = lost[:, i].any()
        if not (intervals or partial or single):
            continue
        kept = table.loc[~lost[:, i], ["unit_id", "block", "arm", names[i]]]
        try:
            d = difference_in_means(kept, names[i], **pair)
            low[i], high[i] = d.low, d.high
            replayed = randomisation_test(kept, names[i], **pair, seed=seed).p if partial else p[i]
            p[i] = max(d.p, replayed)
        except NotEstimable:
            p[i] = 1.0  # counts as not significant and has no interval
    return _Judged(p, low, high)


def _share_se(share: float, trials: int) -> float:
    """Return the Monte Carlo error of a share; that of one trial in a thousand if none or all."""
    inside = min(max(share, 1 / trials), 1 - 1 / trials)
    return float(np.sqrt(inside * (1 - inside) / trials))
