"""Sentences of the sections claim no more than the look at which they are printed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from analysis import schema
from analysis.pipeline.primary import Results, analyse
from analysis.record.reader import Record
from analysis.report import figures
from analysis.report.sections import section_tables
from analysis.secondary.context import SecondaryResults, analyse_secondary
from analysis.secondary.matched_accuracy import matching_line
from analysis.secondary.registry import all_sections, find_section

DECLARED = {"margins": {"clean_acc": 0.5}, "matching": {"arm": "treatment", "line": ["placebo"]}}
LOOKS = {"looks": {"blocks": [1, 2], "spending": "pocock"}}


def without(
    record: Record, units: list[str], status: str = schema.PENDING, **declared: Any
) -> Record:
    """Remove the outcomes of units as if they were pending or failed; add keys to the protocol."""
    table = record.units.copy()
    outcomes = table.columns[table.columns.get_loc("prior_sha256") + 1 :]
    mine = table["unit_id"].isin(units)
    table[outcomes] = table[outcomes].where(~mine)
    table.loc[mine, "status"] = status
    if status == schema.PENDING:
        table.loc[mine, "start_order"] = pd.NA
    return replace(record, units=table, protocol={**record.protocol, **declared})


def analysed(record: Record) -> tuple[Results, SecondaryResults]:
    results = analyse(record)
    return results, analyse_secondary(record, results)


def sentences(name: str, results: Results, found: Any) -> list[str]:
    said = find_section(name).sentence(results, found)
    return [said] if isinstance(said, str) else said


def all_sentences(results: Results, secondary: SecondaryResults) -> str:
    """Join the sentences of every section that has a result."""
    names = [s.name for s in all_sections() if secondary[s.name] is not None]
    return " ".join(text for n in names for text in sentences(n, results, secondary[n]))


def test_between_planned_looks_no_sentence_claims(record: Record) -> None:
    """Where the verdict decides nothing, no sentence below it may decide anything."""
    claims = ("is excluded (", "of treatment differs: ", "do not fit the exclusion restriction")
    results, secondary = analysed(replace(record, protocol={**record.protocol, **DECLARED}))
    assert all(claim in all_sentences(results, secondary) for claim in claims)
    last = [str(record.units["unit_id"].iloc[-1])]
    results, secondary = analysed(without(record, last, **DECLARED))
    assert results.undecided
    said = all_sentences(results, secondary)
    assert not any(claim in said for claim in (*claims, "exclude a zero effect", "not shown"))
    assert said.count("not decided") == 4
    assert "shown" not in str(section_tables(results, secondary)["margins"].rows)


def test_a_planned_look_decides_by_its_own_threshold_and_names_it(record: Record) -> None:
    second = record.units["block"] == "split-11"
    line = {"matching": {"arm": "treatment", "line": ["placebo", "control"]}}  # not by one unit
    declared = {**DECLARED, **LOOKS, **line}
    half = without(record, list(record.units["unit_id"][second]), **declared)
    results, secondary = analysed(half)
    assert (results.undecided, results.needed) == (False, pytest.approx(0.031, abs=5e-4))
    margin = secondary["margins"][0]
    assert margin.alpha == results.needed / 2
    matched = secondary["matched_accuracy"]
    for p, verdict in ((0.03, "differs: "), (0.04, "was not shown to differ: ")):
        (sentence,) = sentences("matched_accuracy", results, replace(matched, p=p))
        assert f"inversion) of treatment {verdict}" in sentence
        assert f"p = {p:.3f}, this look needs p <= 0.031)" in sentence
    classes = replace(secondary["class_heterogeneity"], omnibus_p=0.04)
    (sentence,) = sentences("class_heterogeneity", results, classes)
    assert "was not shown (randomisation p = 0.040, this look needs p <= 0.031)" in sentence
    said = sentences("margins", results, secondary["margins"])[0]
    assert "(one-sided 98.4% lower bound" in said
    assert "this look needs p <= 0.016)" in said


def test_a_weak_instrument_is_called_uncertain_and_not_small(record: Record) -> None:
    results, secondary = analysed(record)
    found = secondary["instruments"]
    weak = replace(found, wald=tuple(replace(w, first_stage_f=3.0) for w in found.wald[:1]))
    said = sentences("instruments", results, weak)
    assert said[1] == (
        "The effect on robust accuracy at 0.0025 is too uncertain for the arm to serve as an "
        "instrument of it (first-stage F below 10)."
    )


def test_units_that_have_not_ended_are_no_failures(record: Record) -> None:
    treated = list(record.units["unit_id"][record.units["arm"] == "treatment"])
    failed = without(record, treated[:1], schema.FAILED)
    results, secondary = analysed(without(failed, treated[1:5]))
    found = secondary["attrition"]
    assert (found.missing_arm, found.n_arm) == (1, 4)
    (sentence,) = sentences("attrition", results, found)
    assert sentence.startswith(
        "1 of 4 units that have ended of treatment and 0 of 8 of control have no outcome (Fisher "
        "p = 0.33)"
    )


def test_an_arm_is_no_point_of_its_own_line(record: Record) -> None:
    """Without a declaration, the line of strong against weak must not contain strong."""
    arms = {
        "control": {"defense": "none"},
        "treatment": {"defense": "anti_adversarial", "weight": 2.0},
        "placebo": {"defense": "anti_adversarial", "weight": 1.0},
    }
    protocol = {**record.protocol, "arms": arms}
    results = analyse(replace(record, protocol=protocol))
    assert matching_line(protocol, results) is None
    protocol["arms"] = {**arms, "weaker": {"defense": "anti_adversarial", "weight": 0.5}}
    assert matching_line(protocol, results) == ("treatment", ["placebo", "weaker"])


def test_a_distance_as_primary_outcome_is_no_percentage(record: Record) -> None:
    """A distance has bounds in [0, 2], no odds ratio, no axis in % and enough digits of slopes."""
    protocol = {**record.protocol, **DECLARED, "outcome": "standard/delta_eval"}
    lost = str(record.units["unit_id"][record.units["arm"] == "control"].iloc[0])
    gone = without(replace(record, protocol=protocol), [lost], schema.FAILED)
    results, secondary = analysed(gone)
    assert all(c.beta is None for c in results.comparisons.values())
    a, seen = secondary["attrition"], results.analysed
    assert a is not None
    means = seen.groupby("arm")["standard/delta_eval"].mean()
    missing_largest = (7 * means["control"] + 2) / 8
    assert a.worst_low == pytest.approx(means["treatment"] - missing_largest)
    (sentence,) = sentences("matched_accuracy", results, secondary["matched_accuracy"])
    assert " L2 against the line of placebo" in sentence
    tables = section_tables(results, secondary)
    assert tables["mechanism"].head[6] == "indirect (L2)"
    wald = secondary["instruments"].wald[0]
    assert float(tables["mechanism"].rows[0][2]) == pytest.approx(wald.ratio, abs=6e-6)
    units, arms = results.analysed, results.arms
    drawn = figures.scatter_figure(units, results.outcome, [schema.CLEAN_ACC], arms)
    assert "L2<" in drawn
    assert "clean accuracy, %<" in drawn
    assert float(tables["leakage_model"].rows[1][1]) == pytest.approx(
        secondary["leakage_model"].coefficients[1], abs=6e-6
    )


def test_a_missing_robust_accuracy_costs_only_its_own_epsilon(record: Record) -> None:
    units = record.units.copy()
    units.loc[units["arm"] == "treatment", "robust_acc/0.0025"] = float("nan")
    results, secondary = analysed(replace(record, units=units))
    shown = [w.mediator.outcome for w in secondary["instruments"].wald]
    assert shown == ["robust_acc/0.005", "robust_acc/0.01", "robust_acc/0.02"]
    assert secondary["leakage_model"].n == len(units)
    notes = " ".join(secondary.notes)
    assert "leave out robust accuracy at epsilon 0.0025, which was not measured for " in notes
    assert [a.accuracy for a in results.associations][1:4] == shown


def test_the_exclusion_names_its_radius_and_what_its_test_assumes(record: Record) -> None:
    results, secondary = analysed(record)
    said = sentences("instruments", results, secondary["instruments"])[-1]
    assert "robust accuracy at epsilon 0.0025, the only radius that is tested," in said
    assert "it rejects a true restriction more often" in said or "so it is exploratory" in said


def test_the_failure_p_exists_where_a_whole_arm_failed(record: Record) -> None:
    treated = list(record.units["unit_id"][record.units["arm"] == "treatment"])
    results, secondary = analysed(without(record, treated, schema.FAILED))
    (sentence,) = sentences("attrition", results, secondary["attrition"])
    assert "(Fisher p = 0.00016)" in sentence
    assert ("failures alike in treatment and control, Fisher p", "0.00016") in section_tables(
        results, secondary
    )["integrity"].rows
