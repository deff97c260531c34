"""Group-sequential looks at an unfinished trial, with the error spent as the protocol declares.

Looks come after whole blocks. The rule stops at look k where the randomisation p is at most the
error spent at that look. The total error is then at most alpha at any number of units, whatever the
dependence of the looks. The boundary of normal theory is given beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from scipy.optimize import root_scalar

from analysis.inference.reallocation import smallest_p
from analysis.inference.table_checks import counted

SPENDING = ("obrien_fleming", "pocock")


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """One planned look."""

    blocks: int  # finished at this look
    fraction: float  # of all blocks
    threshold: float  # stop where p is at most this
    smallest_p: float  # that the design can give at this look
    normal_p: float  # two-sided p at the boundary of jointly normal statistics

    @property
    def can_stop(self) -> bool:
        """Tell whether any data could stop the trial at this look."""
        return self.smallest_p <= self.threshold * (1 + 1e-9)

    def __str__(self) -> str:
        reach = "" if self.can_stop else "; cannot stop"
        return (
            f"after {counted(self.blocks, 'block')}: p <= {self.threshold:.3g} "
            f"(smallest possible {self.smallest_p:.2g}{reach})"
        )


def spent_error(fraction: float, alpha: float, spending: str) -> float:
    """Return the error that a two-sided test has spent at an information fraction t.

    Lan & DeMets (1983): ``obrien_fleming`` spends 2 - 2 Phi(z_{alpha/4} / sqrt(t)) on each side,
    ``pocock`` alpha log(1 + (e - 1) t) on both together.
    """
    if spending not in SPENDING:
        raise ValueError(f"unknown spending {spending!r}; known: {', '.join(SPENDING)}")
    if not 0 < fraction <= 1:
        raise ValueError(f"an information fraction is in (0, 1], got {fraction:g}")
    if spending == "obrien_fleming":
        return float(4 * stats.norm.sf(stats.norm.isf(alpha / 4) / np.sqrt(fraction)))
    return float(alpha * np.log(1 + (np.e - 1) * fraction))


def plan_looks(
    looks: list[int], *, blocks: int, per_arm: tuple[int, int], alpha: float, spending: str
) -> list[Look]:
    """Plan looks at a trial of two arms.

    Args:
        looks: numbers of finished blocks at which to look, increasing up to ``blocks``.
        blocks: of the whole trial.
        per_arm: units of each arm in every block.
        alpha: two-sided error that is spent in all.
        spending: one of SPENDING.

    Raises:
        ValueError: looks do not increase up to ``blocks``, or no data could stop the trial at one
            of them; the message says how many blocks that look needs.
    """
    if not looks or sorted(set(looks)) != looks or looks[0] < 1 or looks[-1] != blocks:
        raise ValueError(
            f"looks must increase and end with all {counted(blocks, 'block')}, got {looks}"
        )
    fractions = [k / blocks for k in looks]
    total = [spent_error(f, alpha, spending) for f in fractions]
    increments = np.diff([0.0, *total])
    normal = normal_boundaries(fractions, list(increments))
    plan = [
        Look(
            blocks=k,
            fraction=f,
            threshold=float(e),
            smallest_p=smallest_p([per_arm] * k),
            normal_p=float(2 * stats.norm.sf(z)),
        )
        for k, f, e, z in zip(looks, fractions, increments, normal, strict=True)
    ]
    for look in plan:
        if not look.can_stop:
            raise ValueError(_cannot_stop_message(look, blocks, per_arm))
    return plan


def _cannot_stop_message(look: Look, blocks: int, per_arm: tuple[int, int]) -> str:
    """Return the message for a look that cannot stop, with the number of blocks that it needs."""
    enough = (b for b in range(1, blocks + 1) if smallest_p([per_arm] * b) <= look.threshold)
    needed = next(enough, None)
    later = "" if needed is None else f"look after {counted(needed, 'block')} or later, "
    return (
        f"the look after {counted(look.blocks, 'block')} can never stop: it needs "
        f"p <= {look.threshold:.2g}, but {counted(look.blocks, 'block')} of "
        f"{per_arm[0]} + {per_arm[1]} units can give "
        f"{look.smallest_p:.2g} at best; {later}look less often, spend by pocock, or take more "
        "units a block"
    )


def units_by_arm(protocol: dict[str, Any]) -> dict[str, int]:
    """Return the number of units of each arm in every block of the record.

    With ``design: pairs`` a block of the record is a matched set: one unit of every arm.
    """
    each = 1 if protocol.get("design") == "pairs" else protocol["units_per_arm"]
    return {arm: each if isinstance(each, int) else each[arm] for arm in protocol["arms"]}


def planned_looks(protocol: dict[str, Any]) -> tuple[Look, ...]:
    """Plan the looks that a protocol declares under ``looks``: finished blocks and spending.

    Without that key there are none.

    Raises:
        ValueError: the looks do not increase up to all blocks, or no data could stop the trial at
            one of them.
    """
    declared = protocol.get("looks")
    if not declared:
        return ()
    blocks, per_arm = len(protocol["blocks"]), units_by_arm(protocol)
    if protocol.get("design") == "pairs":
        blocks *= protocol["units_per_arm"]
    primary = protocol["contrasts"]["primary"]
    plan = plan_looks(
        list(declared["blocks"]),
        blocks=blocks,
        per_arm=(per_arm[primary["arm"]], per_arm[primary["against"]]),
        alpha=protocol["alpha"],
        spending=declared["spending"],
    )
    return tuple(plan)


def normal_boundaries(fractions: list[float], increments: list[float]) -> list[float]:
    """Return two-sided z boundaries that spend ``increments`` at information ``fractions``.

    Armitage, McPherson & Rowe (1969): the density of the score process that has not crossed yet is
    integrated from look to look, here on Gauss-Legendre nodes between the boundaries.
    """
    unit_nodes, unit_weights = np.polynomial.legendre.leggauss(200)
    boundaries: list[float] = []
    nodes, mass, before = np.zeros(1), np.ones(1), 0.0
    for t, error in zip(fractions, increments, strict=True):
        step = np.sqrt(t - before)

        def excess(edge: float, nodes=nodes, mass=mass, step=step, error=error) -> float:
            """Return the probability of crossing at ``edge``, less the error to be spent."""
            beyond = stats.norm.sf((edge - nodes) / step) + stats.norm.cdf((-edge - nodes) / step)
            return float(mass @ beyond) - error

        edge = float(root_scalar(excess, bracket=(1e-6, 20.0)).root)
        boundaries.append(edge / float(np.sqrt(t)))
        following = edge * unit_nodes
        kernel = stats.norm.pdf((following[:, None] - nodes) / step) / step
        nodes, mass, before = following, edge * unit_weights * (kernel @ mass), t
    return boundaries


def stagewise_interval(
    looks: Sequence[Look], look: Look, *, estimate: float, se: float, level: float
) -> tuple[float, float]:
    """Return the interval of an effect estimated at ``look``, corrected for the looks before it.

    Stage-wise ordering (Tsiatis, Rosner & Mehta 1984; Jennison & Turnbull 2000, Sec. 8.5): an
    earlier crossing is more extreme, and among trials that stop at one look a larger statistic is
    more extreme. An end is the effect under which the observed result or a more extreme one has
    probability (1 - level) / 2. The statistic is taken as normal with known error, and the trial as
    stopped where its two-sided p is at most the threshold. At the first look the result is the
    plain normal interval.
    """
    done = [planned for planned in looks if planned.blocks <= look.blocks]
    times = [planned.fraction for planned in done]
    edges = [float(stats.norm.isf(p.threshold / 2)) * np.sqrt(p.fraction) for p in done]
    scale = se * np.sqrt(look.fraction)  # effect for a drift of one
    score, tail = estimate / se * np.sqrt(look.fraction), (1 - level) / 2
    largest = (abs(estimate) + 12 * se) / scale  # drift that is searched

    def end(probability: float) -> float:
        def excess(drift: float) -> float:
            return _upward_probability(drift, times, [*edges[:-1], score]) - probability

        return scale * float(root_scalar(excess, bracket=(-largest, largest)).root)

    return end(tail), end(1 - tail)


def _upward_probability(drift: float, times: list[float], edges: list[float]) -> float:
    """Return P(first crossing is upward, or score at the last time >= its edge) under ``drift``."""
    unit_nodes, unit_weights = np.polynomial.legendre.leggauss(100)
    nodes, mass, before, total = np.zeros(1), np.ones(1), 0.0, 0.0
    for t, edge in zip(times, edges, strict=True):
        step, mean = np.sqrt(t - before), nodes + drift * (t - before)
        total += float(mass @ stats.norm.sf((edge - mean) / step))
        if t == times[-1]:
            break
        following = edge * unit_nodes
        kernel = stats.norm.pdf((following[:, None] - mean) / step) / step
        nodes, mass, before = following, edge * unit_weights * (kernel @ mass), t
    return total
