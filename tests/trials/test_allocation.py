"""Allocation: against a second implementation, a stored table and the expected frequencies."""

import hmac
import json
import math
import re
from collections import Counter
from itertools import permutations, product
from pathlib import Path

import pytest
from scipy.stats import chisquare

import trials
from trials.allocation import Assignment, differences, draw, from_csv, numbered, strata, to_csv
from trials.config.protocol import Protocol
from trials.config.settings import canonical_json

PLACEBO = {"defense": "decoy_noise", "weight": 2.0, "epsilon": 0.01}
BLOCKS = {f"split-{i}": {"split": i} for i in range(3)}


@pytest.fixture
def three_arms(content, tiny_protocol):
    """Return a function that makes a protocol of three arms in three blocks."""

    def make(**changes):
        arms = {**content["arms"], "placebo": PLACEBO}
        return tiny_protocol(**{"arms": arms, "blocks": BLOCKS, "units_per_arm": 4, **changes})

    return make


VECTOR = """\
unit_id,block,arm
split-0-01,split-0,placebo
split-0-02,split-0,placebo
split-0-03,split-0,treatment
split-0-04,split-0,control
split-0-05,split-0,control
split-0-06,split-0,treatment
"""

DESIGNS = pytest.mark.parametrize(
    "design",
    [
        {"design": "blocked"},
        {"design": "pairs"},
        {"units_per_arm": {"control": 5, "treatment": 1, "placebo": 2}},
    ],
    ids=["blocked", "pairs", "unequal"],
)


def draw_again(protocol_hash, nonce, name, unit_ids, arms):
    """Second implementation: sort the units by digest, assign the sorted arms in that order."""
    digests = {
        unit_id: hmac.digest(nonce.encode(), f"{protocol_hash}|{name}|{unit_id}".encode(), "sha256")
        for unit_id in unit_ids
    }
    dealt = dict(zip(sorted(digests, key=digests.__getitem__), arms, strict=True))
    return [Assignment(unit_id=unit_id, stratum=name, arm=dealt[unit_id]) for unit_id in unit_ids]


def test_every_block_has_the_number_of_units_per_arm_of_the_protocol(three_arms):
    table = draw(three_arms(), "7")
    assert Counter((row.stratum, row.arm) for row in table) == {
        (block, arm): 4 for block in BLOCKS for arm in ("control", "treatment", "placebo")
    }
    assert len({row.unit_id for row in table}) == len(table)


def test_unequal_arms_have_their_own_number_of_units_in_every_block(three_arms):
    sizes = {"control": 5, "treatment": 1, "placebo": 2}
    table = draw(three_arms(units_per_arm=sizes), "7")
    for block in BLOCKS:
        assert Counter(row.arm for row in table if row.stratum == block) == sizes


def test_a_matched_set_has_one_unit_of_every_arm_and_one_seed_name(three_arms):
    protocol = three_arms(design="pairs")
    groups = {stratum.name: stratum for stratum in strata(protocol)}
    assert Counter(stratum.block for stratum in groups.values()) == dict.fromkeys(BLOCKS, 4)
    table = draw(protocol, "7")
    for name, stratum in groups.items():
        rows = [row for row in table if row.stratum == name]
        assert sorted(row.arm for row in rows) == ["control", "placebo", "treatment"]
        assert tuple(row.unit_id for row in rows) == stratum.unit_ids
        assert stratum.seed_name == name


def test_units_of_a_matched_set_have_the_same_seeds_and_other_units_have_their_own(three_arms):
    def seeds(protocol, names):
        stratum = strata(protocol)[0]
        specs = [
            protocol.unit_spec(unit_id, stratum.block, arm, seed_name=stratum.seed_name)
            for unit_id, arm in zip(stratum.unit_ids, stratum.arms, strict=True)
        ]
        return [tuple(spec.seed(name) for name in names) for spec in specs]

    names = ["weights", "train", "invert standard", "robustness"]
    assert len(set(seeds(three_arms(design="pairs"), names))) == 1
    assert len(set(seeds(three_arms(design="blocked"), names))) == 12


@DESIGNS
def test_a_second_implementation_draws_the_same_table(three_arms, design):
    protocol = three_arms(**design)
    expected = []
    for stratum in strata(protocol):
        expected += draw_again(
            protocol.sha256(), "987", stratum.name, stratum.unit_ids, stratum.arms
        )
    assert draw(protocol, "987") == expected


def test_the_draw_equals_a_stored_table(three_arms, monkeypatch):
    """Nonce 20261124, protocol SHA-256 64 times "a", block split-0, two units of each arm.

    The digests behind it are those of ``openssl dgst -sha256 -hmac 20261124``.
    """
    monkeypatch.setattr(Protocol, "sha256", lambda self: 64 * "a")
    protocol = three_arms(units_per_arm=2, blocks={"split-0": {"split": 0}})
    protocol = protocol.model_copy(update={"arms": dict(sorted(protocol.arms.items()))})
    assert to_csv(draw(protocol, "20261124")) == VECTOR


def test_the_draw_equals_the_documented_test_vector(tiny_protocol, monkeypatch):
    monkeypatch.setattr(Protocol, "sha256", lambda self: 64 * "0")
    text = (Path(trials.__file__).parents[1] / "docs" / "allocation.md").read_text()
    documented = re.findall(
        r"^\| (split-\S+) \| `([0-9a-f]+)\.\.\.` \| (\w+) \|$", text, re.MULTILINE
    )
    protocol = tiny_protocol(units_per_arm=2, blocks={"split-0": {"split": 0}})
    drawn = draw(protocol, "20261124")
    assert [(unit_id, arm) for unit_id, _, arm in documented] == [
        (row.unit_id, row.arm) for row in drawn
    ]
    for unit_id, beginning, _ in documented:
        message = f"{64 * '0'}|split-0|{unit_id}".encode()
        assert hmac.digest(b"20261124", message, "sha256").hex().startswith(beginning)


def test_the_table_is_a_function_of_protocol_and_nonce(three_arms):
    assert draw(three_arms(), "7") == draw(three_arms(), "7")
    assert draw(three_arms(), "7") != draw(three_arms(), "8")


@DESIGNS
def test_the_recorded_protocol_draws_the_same_table(three_arms, design):
    """Canonical JSON sorts names, so the table must not depend on the order in the file."""
    protocol = three_arms(**design)
    recorded = json.loads(canonical_json(protocol.canonical()))
    again = draw(Protocol.model_validate(recorded), "7")
    assert differences(again, draw(protocol, "7")) == []


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"name": "tiny-2"},
        {"question": "Does it run again?"},
        {"alpha": 0.01},
        {"retries": 3},
        {"robustness": {"attacks": "apgd-10", "epsilons": [0.02]}},
        {"data": {"name": "orl_faces", "num_private": 7, "num_train": 7, "size": 32}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_setting_changes_the_draw(three_arms, change):
    arms = [row.arm for row in draw(three_arms(), "7")]
    assert [row.arm for row in draw(three_arms(**change), "7")] != arms


def test_every_unit_gets_every_arm_about_equally_often(three_arms):
    tables = [draw(three_arms(seed=seed, units_per_arm=2), str(seed)) for seed in range(400)]
    for rows in zip(*tables, strict=True):
        assert chisquare(list(Counter(row.arm for row in rows).values())).pvalue > 1e-3


@pytest.mark.parametrize(("design", "size"), [("blocked", 4), ("pairs", 2)])
def test_every_order_of_the_arms_is_about_equally_frequent(tiny_protocol, design, size):
    arms = ["control", "treatment"] * (size // 2)
    orders = Counter(dict.fromkeys(permutations(arms), 0))
    for seed in range(400):
        protocol = tiny_protocol(seed=seed, design=design, units_per_arm=2)
        orders[tuple(row.arm for row in draw(protocol, str(seed))[:size])] += 1
    assert len(orders) == {"blocked": 6, "pairs": 2}[design]
    assert chisquare(list(orders.values())).pvalue > 1e-3


@DESIGNS
def test_ten_thousand_draws_are_balanced_and_as_frequent_as_their_probability(
    three_arms, monkeypatch, design
):
    """Of each unit and arm, the frequency is a binomial's: within 4.5 standard errors, and spread.

    A table that went round the arms in turn would be balanced and have no spread at all.
    """
    monkeypatch.setattr(Protocol, "sha256", lambda self: 64 * "b")
    protocol, draws = three_arms(**design), 10_000
    groups = strata(protocol)
    balance = Counter((group.name, arm) for group in groups for arm in group.arms)
    counts = Counter()
    for nonce in range(draws):
        table = draw(protocol, str(nonce))
        assert Counter((row.stratum, row.arm) for row in table) == balance
        counts.update((row.unit_id, row.arm) for row in table)
    errors = []
    for group in groups:
        for unit_id, arm in product(group.unit_ids, set(group.arms)):
            chance = group.arms.count(arm) / len(group.arms)
            spread = math.sqrt(draws * chance * (1 - chance))
            errors.append((counts[unit_id, arm] - draws * chance) / spread)
    assert max(map(abs, errors)) < 4.5
    # At least 42 degrees of freedom: a standard error of 0.22, three of them on either side.
    assert 0.35 < sum(error**2 for error in errors) / len(errors) < 1.65


def test_blocks_are_drawn_independently(three_arms):
    """Two blocks that differ only in their names get different orders of arms."""
    table = draw(three_arms(), "7")
    orders = {tuple(row.arm for row in table if row.stratum == block) for block in BLOCKS}
    assert len(orders) == 3


@DESIGNS
def test_unit_ids_do_not_reveal_the_arm(three_arms, design):
    for row in draw(three_arms(**design), "7"):
        assert row.arm not in row.unit_id


def test_numbers_in_names_have_the_digits_of_the_last_number():
    assert numbered("a", 3) == ("a-01", "a-02", "a-03")
    assert numbered("a", 100)[0] == "a-001"


@DESIGNS
def test_the_csv_reads_back_as_the_same_table(three_arms, design):
    table = draw(three_arms(**design), "7")
    assert from_csv(to_csv(table)) == table


def test_a_csv_with_other_columns_is_refused():
    with pytest.raises(ValueError, match="columns unit_id, block, arm, got .*'unit'"):
        from_csv("unit,block,arm\na,b,c\n")


def test_differences_are_named(three_arms):
    drawn = draw(three_arms(), "7")
    assert differences(drawn, drawn) == []
    first, second, *others = drawn
    moved = Assignment(unit_id=first.unit_id, stratum=first.stratum, arm="elsewhere")
    assert differences([moved, second, *others], drawn) == [
        f"unit split-0-01: recorded elsewhere in split-0, drawn {first.arm} in split-0"
    ]
    assert differences([second, *others], drawn) == ["unit split-0-01 is missing"]
    undrawn = Assignment(unit_id="undrawn", stratum="split-0", arm="control")
    assert differences([*drawn, undrawn], drawn) == ["unit undrawn is recorded but was not drawn"]


def test_a_unit_that_is_recorded_twice_is_named(three_arms):
    drawn = draw(three_arms(), "7")
    assert differences([*drawn, drawn[0]], drawn) == ["unit split-0-01 is recorded 2 times"]
