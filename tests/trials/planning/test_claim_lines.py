"""What ``atat plan`` prints of a claim: the rule, and the chance of each verdict."""

import re

import pytest

from trials.allocation import strata
from trials.cli.parser import parser
from trials.planning import plan as planning
from trials.planning.claim_lines import describe_claims

CLAIM = {
    "sentence": "It leaks less.",
    "paper": "It does.",
    "where": "Table 1",
    "estimand": {"contrast": {"contrast": "primary"}},
    "direction": "below",
    "margin": -0.1,
}


@pytest.fixture
def lines(tiny_protocol):
    """Return a function that gives the lines on a claim, with changes of it and options."""

    def make(words="", **changes):
        protocol = tiny_protocol(claims={"one": {**CLAIM, **changes}}, units_per_arm=8)
        options = parser().parse_args(["plan", "any", "--trials", "60", *words.split()])
        assumed = planning.assumptions(options)
        return list(describe_claims(protocol, strata(protocol), assumed, options))

    return make


def shares(line):
    return {name: int(n) for name, n in re.findall(r"([a-z]+) (\d+)% \(", line)}


def test_a_contrast_has_three_truths_that_nobody_needs_to_declare(lines):
    found = lines("--control 0.9 --effect -30 --sd 5")
    assert found[0] == "claim one: It leaks less."
    assert "wholly below -0.1, contradicted if it is wholly above" in found[2]
    none, margin, effect = found[3:]
    assert none.startswith("  if no effect: ")
    assert margin.startswith("  if an effect at the margin: ")
    assert effect.startswith("  if 90% becomes 60%: ")
    assert shares(none)["contradicted"] > 90
    assert shares(effect)["supported"] > 90
    assert shares(margin)["undecided"] > 80


def test_a_claim_that_cannot_be_decided_is_seen_before_it_costs_anything(lines):
    effect = lines("--control 0.9 --effect -12 --sd 9")[-1]
    assert shares(effect)["undecided"] > 60


def test_declared_truths_are_simulated_with_their_spread(lines):
    truths = {"close": {"treatment": {"standard/att_acc_1": 0.85},
                        "control": {"standard/att_acc_1": 0.86}}}  # fmt: skip
    found = lines(truths=truths, spread={"standard/att_acc_1": 0.03})
    assert found[3].startswith("  if close: supported 0%")


def test_other_estimands_ask_for_truths(lines):
    slope = {"slope": {"of": "clean_acc"}}
    assert "declare claims.one.truths" in lines(estimand=slope)[-1]


def test_a_margin_on_both_sides_is_stated_so(lines):
    assert "wholly within +-0.1" in lines(direction="within", margin=0.1)[2]


def test_a_protocol_without_a_claim_has_no_line(tiny_protocol):
    protocol, options = tiny_protocol(), parser().parse_args(["plan", "any"])
    assert not list(describe_claims(protocol, strata(protocol), {}, options))
