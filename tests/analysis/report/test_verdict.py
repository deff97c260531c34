"""The sentences of the verdict: what each kind of record lets them claim."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from analysis import schema
from analysis.pipeline.primary import analyse
from analysis.record.reader import Record
from analysis.report import verdict as wording

PRIMARY = {"arm": "treatment", "against": "control"}


def with_contrasts(record: Record, **others: dict[str, str]) -> Record:
    contrasts = {**others, "primary": PRIMARY}
    return replace(record, protocol={**record.protocol, "contrasts": contrasts})


def said(record: Record) -> tuple[str, list[str]]:
    results = analyse(record)
    return wording.verdict(results)[1], wording.limits(results)


def test_the_mechanism_is_the_contrast_of_that_name_wherever_it_stands(record: Record) -> None:
    """Names are sorted, so ``decoys`` precedes it and must not be taken for the mechanism."""
    other = {"arm": "placebo", "against": "control"}
    asked = {"arm": "treatment", "against": "placebo"}
    sentence, limits = said(with_contrasts(record, decoys=other, mechanism=asked))
    assert sentence.startswith("Against placebo the difference is ")
    assert sentence.endswith(
        "so what placebo shares with treatment does not explain all of the effect."
    )
    assert (
        "The contrast treatment v placebo removes the effect of what the two arms share"
        in limits[1]
    )


def test_without_a_mechanism_nothing_is_said_of_what_arms_share(record: Record) -> None:
    other = {"arm": "placebo", "against": "control"}
    reverse = {"arm": "placebo", "against": "treatment"}
    for contrasts in ({"decoys": other}, {"mechanism": other}, {"mechanism": reverse}):
        sentence, limits = said(with_contrasts(record, **contrasts))
        assert sentence.startswith("Clean accuracy differs too (")
        assert limits[1] == (
            "No contrast named mechanism compares treatment with a second reference, so the "
            "question of mechanism is open."
        )


def test_contrasts_stand_by_name_after_the_primary_one(record: Record) -> None:
    other = {"arm": "placebo", "against": "control"}
    results = analyse(with_contrasts(record, zeta=other, alpha=other))
    assert [c.name for c in results.contrasts] == ["primary", "alpha", "zeta"]


def of_two_arms(record: Record, **changes: Any) -> Record:
    """Keep control and treatment, and change the protocol."""
    units = record.units.loc[record.units["arm"].isin(list(PRIMARY.values()))]
    arms = {a: record.protocol["arms"][a] for a in ("control", "treatment")}
    protocol = {**record.protocol, "arms": arms, "contrasts": {"primary": PRIMARY}, **changes}
    return replace(record, units=units.reset_index(drop=True), protocol=protocol)


def lose(record: Record, unit_id: str) -> Record:
    units = record.units.copy()
    outcomes = [c for c in units if c.startswith(("standard/", "strong/", "robust"))]
    units.loc[units["unit_id"] == unit_id, [*outcomes, "clean_acc", "train_acc"]] = float("nan")
    units.loc[units["unit_id"] == unit_id, "status"] = schema.FAILED
    return replace(record, units=units)


def test_an_aa_check_too_small_to_find_anything_does_not_say_that_it_found_nothing(
    record: Record,
) -> None:
    alike = {"control": {"defense": "none"}, "treatment": {"defense": "none"}}
    small = of_two_arms(record, arms=alike, units_per_arm=2)
    first = small.units["block"] == small.units["block"].iloc[0]
    cells = small.units.loc[first].groupby("arm").head(2).reset_index(drop=True)
    one, two = wording.verdict(analyse(replace(small, units=cells)))
    assert one.endswith(
        "no difference could have been shown, as this design cannot give p below 0.33."
    )
    assert two == "With so few units no constant difference is excluded at the 95% level."


def test_leakage_and_accuracy_move_together_only_where_both_went_one_way(record: Record) -> None:
    down = of_two_arms(record)
    assert "leakage and accuracy moved together" in wording.verdict(analyse(down))[1]
    units = down.units.copy()
    treated = units["arm"] == "treatment"
    units.loc[treated, "clean_acc"] = 0.99 + units.loc[treated, "clean_acc"] / 100
    units.loc[~treated, "clean_acc"] = 0.5 + units.loc[~treated, "clean_acc"] / 10
    up = replace(down, units=units)
    assert "leakage and accuracy moved in opposite directions" in wording.verdict(analyse(up))[1]
    distance = replace(down, protocol={**down.protocol, "outcome": "standard/delta_eval"})
    first, second = wording.verdict(analyse(distance))
    assert "L2 higher in treatment" in first
    assert "leakage and accuracy moved together" in second


def test_a_unit_whose_partner_failed_is_named(record: Record) -> None:
    pairs = of_two_arms(record, design="pairs")
    number = pairs.units.groupby(["block", "arm"]).cumcount().astype(str)
    units = pairs.units.assign(block=pairs.units["block"] + "-" + number)
    pairs = replace(pairs, units=units)
    assert wording.verdict(analyse(pairs))[0].startswith("Over 16 training runs, ")
    gone = units.loc[units["arm"] == "treatment"].iloc[0]
    left = units.loc[(units["block"] == gone["block"]) & (units["arm"] == "control"), "unit_id"]
    results = analyse(lose(pairs, gone["unit_id"]))
    assert sum(row.analysed for row in results.flow.rows) == 15
    assert wording.verdict(results)[0].startswith(
        f"Over 14 training runs (1 more failed; {left.item()} has no finished unit of the other "
        "arm in its block), "
    )


def test_the_verdict_names_the_p_that_a_planned_look_needs(record: Record) -> None:
    """A 95% interval can exclude 0 although the look needs a smaller p."""
    plan = {"looks": {"blocks": [1, 2], "spending": "pocock"}}
    planned = replace(record, protocol={**record.protocol, **plan})
    results = analyse(planned)
    assert results.look == results.looks[-1]
    assert wording.verdict(results)[0].endswith("exact p = 0.00041, this look needs p <= 0.019).")
    spread = 0.04 * record.units.groupby(["block", "arm"]).cumcount()
    values = 0.8 + spread - 0.06 * (record.units["arm"] == "treatment")
    units = record.units.assign(**{"standard/att_acc_1": values})
    results = analyse(replace(planned, units=units))
    assert results.needed < results.primary.p <= results.alpha
    first = wording.verdict(results)[0]
    assert "was not shown: " in first
    assert first.endswith(", this look needs p <= 0.019.")
    assert "this look" not in wording.verdict(analyse(record))[0]


def test_between_looks_the_sentences_beside_the_verdict_are_descriptions(record: Record) -> None:
    early = record.units.copy()
    early.loc[early.index[-1], ["status", "start_order"]] = [schema.PENDING, pd.NA]
    results = analyse(replace(record, units=early))
    assert results.undecided
    assert results.mechanism is not None
    found = wording.mechanism_sentence(results, results.mechanism)
    assert found.startswith("So far the difference from placebo is ")
    assert wording.clean_sentence(results).startswith("So far clean accuracy differs by ")


def test_a_complete_separation_has_its_size_and_exact_p(record: Record) -> None:
    """0 in all treated and 1 in all controls: no interval exists, and no doubt of an effect."""
    two = of_two_arms(record)
    values = (two.units["arm"] == "control").astype(float)
    results = analyse(replace(two, units=two.units.assign(**{"standard/att_acc_1": values})))
    assert results.primary.difference is None
    assert (
        "was 100.0 pp lower in treatment than in control (no interval, as nothing varies"
        in (wording.verdict(results)[0])
    )
    assert wording.verdict(results)[0].endswith("within arms, exact p = 0.00041).")
    inner = two.units.assign(**{"standard/att_acc_1": 0.4 + 0.2 * values})
    results = analyse(replace(two, units=inner))  # equal outcomes inside (0, 1) may be copies
    assert not results.primary.shown
    assert "was not shown: -20.0 pp, no interval" in wording.verdict(results)[0]


def test_an_interval_without_0_that_shows_nothing_says_why(record: Record) -> None:
    """The randomisation test does not reject although the interval excludes 0."""
    two = of_two_arms(record)
    results = analyse(two)
    difference, test = results.primary.difference, results.primary.randomisation
    assert difference is not None
    assert test is not None
    split = replace(results.primary, randomisation=replace(test, p=0.063))
    found = wording.evidence(results, split)
    assert not split.shown
    assert difference.high < 0
    assert "exact p = 0.063, p of equal means = " in found
    assert found.endswith("; to be shown both p must be at most 0.050")
    assert "to be shown" not in wording.evidence(results, results.primary)


def test_the_report_says_which_sentences_the_error_rate_covers(record: Record) -> None:
    said = wording.error_rate(analyse(record))
    assert said.startswith(
        "The trial's error rate of 5% covers the two sentences of the verdict, tested in that "
        "order, and nothing else: "
    )
    assert said.count(". ") == 0
    said = wording.error_rate(analyse(of_two_arms(record, alpha=0.025)))
    assert said.startswith(
        "The trial's error rate of 2.5% covers the first sentence of the verdict"
    )
    early = record.units.copy()
    early.loc[early.index[-1], ["status", "start_order"]] = [schema.PENDING, pd.NA]
    assert "covers no sentence yet" in wording.error_rate(analyse(replace(record, units=early)))
