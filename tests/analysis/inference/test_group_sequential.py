"""Looks at an unfinished trial: published boundaries, and the total error of the rule."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import root_scalar

from analysis.inference.group_sequential import (
    normal_boundaries,
    plan_looks,
    spent_error,
    stagewise_interval,
)


@pytest.mark.parametrize(
    ("spending", "looks", "published"),
    [  # Lan & DeMets (1983), Table 1; Reboussin et al. (2000), program LanDeM, alpha 0.05
        ("obrien_fleming", 3, [3.710, 2.511, 1.993]),
        ("obrien_fleming", 5, [4.877, 3.357, 2.680, 2.290, 2.031]),
        ("pocock", 5, [2.438, 2.427, 2.410, 2.397, 2.386]),
    ],
)
def test_boundaries_equal_published_ones(spending: str, looks: int, published: list[float]) -> None:
    fractions = [(k + 1) / looks for k in range(looks)]
    total = [spent_error(f, 0.05, spending) for f in fractions]
    found = normal_boundaries(fractions, list(np.diff([0.0, *total])))
    assert found == pytest.approx(published, abs=1.5e-3)


def test_thresholds_add_up_to_alpha_and_the_first_is_obrien_flemings() -> None:
    plan = plan_looks([2, 4, 6], blocks=6, per_arm=(5, 5), alpha=0.05, spending="obrien_fleming")
    assert sum(look.threshold for look in plan) == pytest.approx(0.05)
    assert plan[0].threshold == pytest.approx(0.000207, abs=5e-7)
    assert plan[0].smallest_p == pytest.approx(2 / 252**2)
    assert all(look.normal_p >= look.threshold - 1e-9 for look in plan)


def test_a_look_that_can_never_stop_is_refused_and_the_first_that_can_is_named() -> None:
    with pytest.raises(ValueError, match="look after 1 block can never stop.*after 3 blocks or"):
        plan_looks([1, 2, 3], blocks=3, per_arm=(4, 4), alpha=0.05, spending="obrien_fleming")
    with pytest.raises(ValueError, match="must increase and end with all 4 blocks"):
        plan_looks([2, 3], blocks=4, per_arm=(4, 4), alpha=0.05, spending="pocock")
    with pytest.raises(ValueError, match="unknown spending 'uniform'"):
        spent_error(0.5, 0.05, "uniform")


def test_the_rule_keeps_alpha_over_looks_and_uncorrected_looks_do_not() -> None:
    rng = np.random.default_rng(0)
    plan = plan_looks([2, 4, 6], blocks=6, per_arm=(3, 3), alpha=0.05, spending="pocock")
    signs = np.array(np.meshgrid(*[[0, 1]] * 6)).reshape(6, -1).T
    chosen = signs[signs.sum(axis=1) == 3] - 0.5
    stopped = naive = 0
    for _ in range(400):
        reference, observed, hits = np.zeros(1), 0.0, []
        for _ in range(6):
            part = chosen @ rng.normal(size=6)
            own = part[rng.integers(len(part))]
            reference = np.add.outer(reference, part).ravel()
            if len(reference) > 4000:  # sample reallocations, as the package does
                reference = rng.choice(reference, 4000)
            observed += own
            hits.append(np.mean(np.abs(reference) >= abs(observed) - 1e-12))
        stopped += any(hits[look.blocks - 1] <= look.threshold for look in plan)
        naive += min(hits[1], hits[3], hits[5]) <= 0.05
    assert stopped / 400 < 0.075
    assert naive / 400 > 0.07


@pytest.mark.parametrize("effect", [0.0, 2.5])
def test_stagewise_interval_misses_equally_often_on_both_sides_after_a_stop(effect: float) -> None:
    """A score process of drift ``effect`` is stopped as planned; 20,000 trials, exact to 0.2 %."""
    plan = plan_looks([2, 4, 6], blocks=6, per_arm=(5, 5), alpha=0.05, spending="pocock")
    rng, trials = np.random.default_rng(3), 20_000
    score, before, running = np.zeros(trials), 0.0, np.ones(trials, dtype=bool)
    stopped: list[tuple[int, np.ndarray]] = []
    for k, look in enumerate(plan):
        step = look.fraction - before
        score, before = (
            score + effect * step + np.sqrt(step) * rng.normal(size=trials),
            look.fraction,
        )
        edge = stats.norm.isf(look.threshold / 2) * np.sqrt(look.fraction)
        ends = running & ((np.abs(score) >= edge) | (k == 2))
        stopped.append((k, score[ends]))
        running &= ~ends
    missed, plain = np.zeros(2), np.zeros(2)
    for k, scores in stopped:
        look = plan[k]
        estimate, se = scores / look.fraction, 1 / np.sqrt(look.fraction)
        plain += np.array([np.sum(s * (estimate - effect) > 1.96 * se) for s in (1, -1)])
        # limits increase with the estimate, so the estimates that cover are an interval
        ends = []
        for side in (0, 1):
            options = {"se": se, "level": 0.95}

            def miss(e: float, look=look, side=side, options=options) -> float:
                return stagewise_interval(plan, look, estimate=e, **options)[side] - effect

            # a limit that stays on one side of the effect within 9 gives an open end: trials with
            # estimates farther away would have stopped at an earlier look
            around = (effect - 9, effect + 9)
            never, always = miss(around[1]) < 0, miss(around[0]) > 0
            open_end = np.inf if never else -np.inf
            ends.append(open_end if never or always else root_scalar(miss, bracket=around).root)
        missed += np.array([np.sum(estimate > ends[0]), np.sum(estimate < ends[1])])
    assert missed / trials == pytest.approx([0.025, 0.025], abs=0.0035)
    if effect > 0:  # a stop picks large estimates
        assert plain[0] > 1.1 * plain[1]


def test_stagewise_interval_at_the_first_look_is_the_plain_one() -> None:
    plan = plan_looks([2, 4, 6], blocks=6, per_arm=(5, 5), alpha=0.05, spending="pocock")
    found = stagewise_interval(plan, plan[0], estimate=-9.0, se=2.0, level=0.95)
    assert found == pytest.approx((-9 - 1.959964 * 2, -9 + 1.959964 * 2), rel=1e-6)
