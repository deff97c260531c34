"""Everything the report adds to the registered comparisons: sensitivity, mechanism, integrity.

Each part is attempted and is None, with its reason kept, where the data do not allow it. Optional
keys of the protocol, read if present: ``margins`` {outcome: fraction}, ``doses`` {arm: number},
``matching`` {arm: ..., line: [arms]}, ``families`` {name: [arms]}.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis import schema
from analysis.inference.attrition import Attrition, attrition_bounds
from analysis.inference.clustered import ClusteredDifference, clustered_difference
from analysis.inference.group_sequential import units_by_arm
from analysis.inference.heterogeneity import Heterogeneity, class_heterogeneity
from analysis.inference.multiplicity import Dunnett, MaxT, dunnett, max_t
from analysis.inference.noninferiority import MarginTest
from analysis.inference.randomisation import Randomisation, randomisation_test
from analysis.inference.table_checks import NotEstimable
from analysis.pipeline.declared_analyses import (
    Attempts,
    declared_dose,
    declared_families,
    declared_margins,
    declared_matched,
    declared_two_stage,
)
from analysis.pipeline.integrity import Integrity, check_integrity
from analysis.pipeline.primary import Contrast, Results
from analysis.record.reader import Record
from analysis.regression.dose_response import DoseResponse
from analysis.regression.fractions import (
    ModelEffect,
    beta_binomial_effect,
    fractional_logit_effect,
    squeezed_effect,
)
from analysis.regression.leakage_model import Cost, LeakageModel, cost_table, fit_leakage_model
from analysis.regression.matched_accuracy import Matched
from analysis.regression.mechanism import Mediation, TwoStage, WaldRatio, mediation, wald_ratio
from analysis.schema.columns import robust_columns_of, unit_of

_COUNTS = {
    "att_acc_1": "k_1",
    "att_acc_5": "k_5",
    "lda_att_acc_1": "lda_k_1",
    "lda_att_acc_5": "lda_k_5",
}


@dataclass(frozen=True, kw_only=True)
class Examination:
    """Secondary analyses of a record; what could not be estimated is None or missing."""

    studentised: Randomisation | None
    models: tuple[ModelEffect, ...]
    clustered: ClusteredDifference | None  # over classes of units
    attrition: Attrition | None
    integrity: Integrity
    max_t: dict[str, MaxT]  # by contrast, over its secondary outcomes
    dunnett: Dunnett | None  # every arm against the primary contrast's reference
    margins: tuple[MarginTest, ...]
    dose: DoseResponse | None
    wald: tuple[WaldRatio, ...]  # by epsilon
    mediation: dict[str, Mediation]  # by mediator
    two_stage: TwoStage | None  # all arms as instruments, first varying epsilon
    matched: Matched | None
    model: LeakageModel | None
    costs: tuple[Cost, ...]
    families: dict[str, LeakageModel]
    heterogeneity: Heterogeneity | None
    notes: tuple[str, ...]  # why parts are missing


def examine(record: Record, results: Results) -> Examination:
    """Run the secondary analyses of the primary contrast and of the whole campaign."""
    attempt = Attempts()
    protocol, units = record.protocol, results.analysed
    outcome, primary = results.outcome, results.contrasts[0]
    pair = {"arm": primary.arm, "against": primary.against}
    level, seed = results.level, protocol["seed"]
    robust = [c for c in robust_columns_of(list(units.columns)) if len(units[c].unique()) > 1]
    complete = units.dropna(subset=robust)
    counted = with_counts(record, results)
    mechanism = [] if results.same_training else robust
    wald = [
        attempt(f"Wald ratio on {m}", wald_ratio, complete, outcome, m, **pair, level=level)
        for m in mechanism
    ]
    mediated = {
        m: attempt(f"mediation by {m}", mediation, complete, outcome, m, **pair, level=level)
        for m in mechanism
    }
    return Examination(
        studentised=attempt(
            "studentised test",
            randomisation_test,
            units,
            outcome,
            **pair,
            seed=seed,
            level=level,
            studentised=True,
        ),
        models=_models(attempt, counted, results, pair),
        clustered=attempt("CR2 over classes", _clustered, record, results, pair),
        attrition=attempt(
            "bounds", attrition_bounds, _ended_units(record, outcome), outcome, **pair
        ),
        integrity=_integrity(record, results),
        max_t={
            c.name: found
            for c in results.contrasts
            if (found := attempt(f"max-T of {c}", _max_t, results, c, seed)) is not None
        },
        dunnett=attempt("Dunnett", _dunnett, results) if len(results.arms) > 2 else None,
        margins=declared_margins(attempt, protocol, results),
        dose=attempt("dose and response", declared_dose, protocol, results),
        wald=tuple(w for w in wald if w is not None),
        mediation={m: found for m, found in mediated.items() if found is not None},
        two_stage=declared_two_stage(attempt, complete, results, mechanism),
        matched=attempt("matched accuracy", declared_matched, protocol, results),
        model=attempt(
            "leakage model", fit_leakage_model, complete, outcome, schema.CLEAN_ACC, robust
        )
        if schema.CLEAN_ACC in units and robust
        else None,
        costs=tuple(
            attempt("costs", cost_table, complete, outcome, schema.CLEAN_ACC, robust, level=level)
            or ()
        )
        if schema.CLEAN_ACC in units and robust
        else (),
        families=declared_families(attempt, protocol, complete, outcome, robust),
        heterogeneity=attempt("effects by class", _classes, record, results, pair),
        notes=tuple(attempt.notes),
    )


def _integrity(record: Record, results: Results) -> Integrity:
    per_arm, seed = units_by_arm(record.protocol), record.protocol["seed"]
    return check_integrity(record.units, results.analysed, per_arm=per_arm, seed=seed)


def with_counts(record: Record, results: Results) -> pd.DataFrame:
    """Add to the analysed units the counts behind the primary outcome: columns ``k`` and ``n``."""
    inversion, _, name = results.outcome.partition("/")
    units = results.analysed
    if name not in _COUNTS or record.classes.empty:
        return units
    mine = record.classes.loc[record.classes["inversion"] == inversion]
    totals = mine.groupby("unit_id")[["n", _COUNTS[name]]].sum()
    joined = totals.reindex(units["unit_id"])
    return units.assign(k=joined[_COUNTS[name]].to_numpy(), n=joined["n"].to_numpy())


def _ended_units(record: Record, outcome: str) -> pd.DataFrame:
    """Return every unit that has ended, with the outcome where it counts and NaN elsewhere."""
    ended = record.units.loc[record.units["status"] != schema.PENDING]
    if outcome not in ended:
        return ended.assign(**{outcome: float("nan")})
    return ended.assign(**{outcome: ended[outcome].where(ended["status"] == schema.FINISHED)})


def _models(
    attempt: Attempts, units: pd.DataFrame, results: Results, pair: dict[str, str]
) -> tuple[ModelEffect, ...]:
    """Fit the models that take outcomes of 0 and 1, where the outcome is a fraction."""
    outcome, level = results.outcome, results.level
    if unit_of(outcome).name != "pp" or units.empty:
        return ()
    found: list[ModelEffect | None] = []
    counted = "k" in units and not np.isnan(np.asarray(units["k"], dtype=float)).any()
    if counted:
        found.append(
            attempt("beta-binomial", beta_binomial_effect, units, "k", "n", **pair, level=level)
        )
    found.append(
        attempt("fractional logit", fractional_logit_effect, units, outcome, **pair, level=level)
    )
    constants = [float(np.count_nonzero(units["arm"].isin(list(pair.values()))))]
    if counted:
        constants.append(float(np.max(np.asarray(units["n"], dtype=float))))
    for constant in constants:
        options = {"constant": constant, "level": level}
        found.append(
            attempt(f"squeeze N = {constant:g}", squeezed_effect, units, outcome, **pair, **options)
        )
    return tuple(f for f in found if f is not None)


def _primary_classes(record: Record, results: Results) -> tuple[pd.DataFrame, str]:
    inversion, _, name = results.outcome.partition("/")
    if name not in _COUNTS:
        raise NotEstimable(f"{results.outcome} is not recorded by class")
    classes = record.classes
    mine = classes["unit_id"].isin(results.analysed["unit_id"])
    return classes.loc[mine & (classes["inversion"] == inversion)], _COUNTS[name]


def _clustered(record: Record, results: Results, pair: dict[str, str]) -> ClusteredDifference:
    rows, hits = _primary_classes(record, results)
    rates = rows.assign(rate=rows[hits] / rows["n"])
    return clustered_difference(rates, "rate", **pair, level=results.level)


def _classes(record: Record, results: Results, pair: dict[str, str]) -> Heterogeneity:
    rows, hits = _primary_classes(record, results)
    return class_heterogeneity(rows, **pair, seed=record.protocol["seed"], hits=hits)


def _max_t(results: Results, contrast: Contrast, seed: int) -> MaxT:
    """Adjust the secondary outcomes of one contrast that have no gap."""
    units = results.analysed
    mine = units.loc[units["arm"].isin([contrast.arm, contrast.against])]
    others = [o for o in results.means if o != results.outcome and mine[o].notna().all()]
    if not others:
        raise NotEstimable("no secondary outcome without gaps")
    return max_t(mine, others, arm=contrast.arm, against=contrast.against, seed=seed)


def _dunnett(results: Results) -> Dunnett:
    against = results.contrasts[0].against
    arms = [a for a in results.arms if a != against]
    units = results.analysed
    return dunnett(units, results.outcome, arms=arms, against=against, level=results.level)
