"""Registered analysis of a record: one comparison for each contrast and outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from analysis import schema
from analysis.inference.difference import ArmMean, Difference, arm_means, difference_in_means
from analysis.inference.group_sequential import Look, planned_looks
from analysis.inference.randomisation import (
    Randomisation,
    randomisation_test,
    randomisation_tests,
)
from analysis.inference.table_checks import NotEstimable, is_separated
from analysis.pipeline.associations import associations, explained
from analysis.pipeline.consort import Flow, count_flow
from analysis.record.reader import Record
from analysis.regression.beta import BetaEffect, beta_effect
from analysis.regression.correlation import Association, Explained
from analysis.schema.columns import inversions_of, robust_columns_of, unit_of

PRIMARY = "primary"  # name of the contrast that decides
MECHANISM = "mechanism"  # name of the one against an arm that shares part of the treatment

_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrast:
    """A comparison that the protocol registered."""

    name: str
    arm: str
    against: str

    def __str__(self) -> str:
        return f"{self.arm} v {self.against}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One contrast on one outcome; an estimate is None if ``notes`` say why it is missing."""

    contrast: Contrast
    outcome: str
    difference: Difference | None
    randomisation: Randomisation | None
    beta: BetaEffect | None  # of the primary outcome only, where it is a fraction
    alpha: float  # p needed; 0 at an unplanned look, so that nothing is decided
    notes: tuple[str, ...]
    separated: bool = False  # all outcomes are 0 or 1, alike within each arm and block

    @property
    def p(self) -> float:
        """The larger p of randomisation test and difference in means; 1 if one is missing.

        The first tests that no outcome depends on the arm, which is false also where only spreads
        differ. The second tests equal means. To show a difference in means needs both. Where
        outcomes are separated no spread can differ, so the first decides alone.
        """
        if self.randomisation is None:
            return 1.0
        if self.difference is None:
            return self.randomisation.p if self.separated else 1.0
        return max(self.randomisation.p, self.difference.p)

    @property
    def estimate(self) -> float | None:
        """The blocked difference in the printed unit; None if no test is estimable."""
        if self.difference is not None:
            return self.difference.estimate
        return None if self.randomisation is None else self.randomisation.statistic

    @property
    def shown(self) -> bool:
        """Tell whether both tests reject at ``alpha``."""
        return self.p <= self.alpha


@dataclass(frozen=True, kw_only=True)
class Results:
    """Registered analysis of a record."""

    outcome: str  # the primary outcome
    alpha: float  # of the protocol; intervals have the level 1 - alpha
    needed: float  # p needed at this look; 0 if no look was planned here
    arms: tuple[str, ...]
    contrasts: tuple[Contrast, ...]  # the primary one first, then by name
    flow: Flow
    analysed: pd.DataFrame  # finished units with the primary outcome measured
    means: dict[str, list[ArmMean]]  # by outcome
    comparisons: dict[tuple[str, str], Comparison]  # by contrast name and outcome
    associations: tuple[Association, ...]  # of the primary outcome with each accuracy
    explained: dict[str, Explained]  # by robust-accuracy column
    same_training: bool  # the arms of the primary contrast are trained alike (A/A)
    looks: tuple[Look, ...]  # planned by the protocol
    look: Look | None  # the planned look at which these data are

    @property
    def primary(self) -> Comparison:
        """The primary contrast on the primary outcome."""
        return self.comparisons[self.contrasts[0].name, self.outcome]

    @property
    def mechanism(self) -> Comparison | None:
        """The contrast named ``mechanism`` on the primary outcome.

        None unless it compares the arm of the primary contrast with a second reference.
        """
        primary = self.contrasts[0]
        found = next((c for c in self.contrasts if c.name == MECHANISM), None)
        if found is None or found.arm != primary.arm or found.against == primary.against:
            return None
        return self.comparisons[MECHANISM, self.outcome]

    @property
    def level(self) -> float:
        """Level of the intervals."""
        return 1 - self.alpha

    @property
    def interim(self) -> bool:
        """Tell whether units of the allocation are still pending."""
        return self.flow.total.pending > 0

    @property
    def undecided(self) -> bool:
        """Tell whether units are pending at an unplanned look, so that nothing is decided."""
        return self.interim and self.look is None

    @property
    def look_threshold(self) -> float | None:
        """P needed at a planned look that may spend only a part of alpha; else None."""
        return self.needed if 0 < self.needed < self.alpha * (1 - 1e-9) else None

    @property
    def on_primary(self) -> list[Comparison]:
        """Every contrast on the primary outcome."""
        return [self.on(c, self.outcome) for c in self.contrasts]

    def on(self, contrast: Contrast, outcome: str) -> Comparison:
        """Return the comparison of one contrast on one outcome."""
        return self.comparisons[contrast.name, outcome]

    def unpaired(self, contrast: Contrast) -> list[str]:
        """List the analysed units of a contrast whose block has no unit of its other arm."""
        mine = self.analysed.loc[self.analysed["arm"].isin([contrast.arm, contrast.against])]
        alone = mine.groupby("block")["arm"].transform("nunique") == 1
        return [str(unit) for unit in mine["unit_id"][alone]]


def analyse(record: Record) -> Results:
    """Estimate every registered contrast on every recorded outcome."""
    protocol, units = record.protocol, record.units
    outcome, alpha, seed = protocol["outcome"], protocol["alpha"], protocol["seed"]
    contrasts = order_contrasts(protocol["contrasts"])
    arms = order_arms(list(protocol["arms"]), contrasts)
    if outcome not in units:
        units = units.assign(**{outcome: float("nan")})
    analysed = units.loc[(units["status"] == schema.FINISHED) & units[outcome].notna()]
    outcomes = [outcome, *(c for c in _outcomes(list(units.columns)) if c != outcome)]
    flow = count_flow(units, outcome, arms)
    looks = planned_looks(protocol)
    look = _present_look(looks, units)
    needed = look.threshold if look else (0.0 if flow.total.pending else alpha)
    return Results(
        outcome=outcome,
        alpha=alpha,
        needed=needed,
        arms=tuple(arms),
        contrasts=contrasts,
        flow=flow,
        analysed=analysed,
        means={
            o: arm_means(analysed.dropna(subset=[o]), o, arms, level=1 - alpha) for o in outcomes
        },
        comparisons={
            (c.name, o): comparison
            for c in contrasts
            for o, comparison in _compare(
                analysed, c, outcomes, level=1 - alpha, alpha=needed, seed=seed
            ).items()
        },
        associations=associations(analysed, outcome),
        explained=explained(analysed, outcome),
        same_training=_same_recipe(protocol["arms"], contrasts[0]),
        looks=looks,
        look=look,
    )


def _present_look(looks: tuple[Look, ...], units: pd.DataFrame) -> Look | None:
    """Return the planned look whose blocks have ended while all other blocks are pending."""
    pending = units["status"] == schema.PENDING
    states = [set(pending[units["block"] == b]) for b in units["block"].unique()]
    if any(len(state) > 1 for state in states):
        return None  # a block is unfinished
    ended = states.count({False})
    return next((look for look in looks if look.blocks == ended), None)


def order_contrasts(registered: dict[str, dict[str, str]]) -> tuple[Contrast, ...]:
    """Put the contrast named ``primary`` first, the others by name.

    Canonical JSON sorts names, so the order in which a protocol writes them is not recorded.
    """
    names = sorted(registered, key=lambda name: (name != PRIMARY, name))
    return tuple(Contrast(name=name, **registered[name]) for name in names)


def order_arms(arms: list[str], contrasts: tuple[Contrast, ...]) -> list[str]:
    """Order arms as the contrasts name them, reference first; then the remaining arms."""
    named = [arm for c in contrasts for arm in (c.against, c.arm)]
    return list(dict.fromkeys([*named, *arms]))


def _outcomes(columns: list[str]) -> list[str]:
    """List the outcomes that are compared, in the order of the report."""
    by_inversion = [
        schema.inversion_column(inversion, name)
        for inversion in inversions_of(columns)
        for name in (*schema.INVERSION_OUTCOMES, *schema.STUDENT_OUTCOMES)
    ]
    wanted = [*by_inversion, schema.CLEAN_ACC, schema.TRAIN_ACC, *robust_columns_of(columns)]
    return [c for c in wanted if c in columns]


def _compare(
    units: pd.DataFrame,
    contrast: Contrast,
    outcomes: list[str],
    *,
    level: float,
    alpha: float,
    seed: int,
) -> dict[str, Comparison]:
    """Compare two arms on every outcome by each estimator that the data allow.

    ``outcomes`` starts with the primary one. Outcomes without missing values share one
    enumeration of the allocations.
    """
    pair = {"arm": contrast.arm, "against": contrast.against, "level": level}
    mine = units.loc[units["arm"].isin([contrast.arm, contrast.against])]
    complete = [o for o in outcomes if np.isfinite(np.asarray(mine[o], dtype=float)).all()]
    try:
        tests = randomisation_tests(mine, complete, **pair, seed=seed) if complete else {}
    except NotEstimable:
        tests = {}
    found: dict[str, Comparison] = {}
    for outcome in outcomes:
        attempt = _Attempt(mine, outcome, pair)
        fraction = outcome == outcomes[0] and unit_of(outcome).name == "pp"
        found[outcome] = Comparison(
            contrast=contrast,
            outcome=outcome,
            difference=attempt(difference_in_means),
            randomisation=tests.get(outcome) or attempt(randomisation_test, seed=seed),
            beta=attempt(beta_effect) if fraction else None,
            alpha=alpha,
            notes=tuple(attempt.notes),
            separated=is_separated(mine, outcome),
        )
    return found


class _Attempt:
    """Call estimators on one outcome and note why one is not estimable."""

    def __init__(self, units: pd.DataFrame, outcome: str, pair: dict[str, Any]) -> None:
        self.units, self.outcome, self.pair = units, outcome, pair
        self.notes: list[str] = []

    def __call__(self, estimator: Callable[..., _Result], **options: Any) -> _Result | None:
        try:
            return estimator(self.units, self.outcome, **self.pair, **options)
        except NotEstimable as reason:
            if str(reason) not in self.notes:
                self.notes.append(str(reason))
            return None


def _same_recipe(arms: dict[str, Any], contrast: Contrast) -> bool:
    return arms[contrast.arm] == arms[contrast.against]
