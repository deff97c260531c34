"""What ``atat plan`` says of a trial that has not run: power, hours, and what was assumed."""

import re
from argparse import Namespace

import pytest
from scipy import stats

from trials import planning
from trials.allocation import strata
from trials.cli import parser


@pytest.fixture
def planned(tiny_protocol):
    """Return a function that gives the lines on power of a protocol under some options."""

    def lines(words="", **changes):
        protocol = tiny_protocol(**{"units_per_arm": 6, **changes})
        options = parser().parse_args(["plan", "any", *words.split()])
        return planning.describe_power(protocol, strata(protocol), options)

    return lines


def power_in(lines):
    return [
        float(n) for n in re.search(r"power of primary: (\d+)% \(([\d.]+)%\)", lines[0]).groups()
    ]


def test_power_is_that_of_the_t_test_where_outcomes_are_nearly_normal(planned):
    """Twelve units an arm in two blocks: noncentral t with 21 degrees of freedom."""
    power, error = power_in(planned("--control 0.5 --effect -5 --sd 4"))
    shift, critical = 5 / (4 * (2 / 12) ** 0.5), stats.t.ppf(0.975, 21)
    theory = stats.nct.sf(critical, 21, shift) + stats.nct.cdf(-critical, 21, shift)
    assert power == pytest.approx(100 * theory, abs=4 * error + 1)
    assert error == pytest.approx((power * (100 - power) / 500) ** 0.5, abs=0.06)


def test_power_falls_with_the_spread_and_rises_with_the_effect(planned):
    few = [power_in(planned(f"--effect {e} --sd {s} --trials 200"))[0]
           for e, s in ((-4, 4), (-4, 8), (-8, 8))]  # fmt: skip
    assert few[1] < few[0] - 10
    assert few[2] > few[1] + 10


def test_the_design_of_the_primary_contrast_is_simulated(planned):
    """A design whose smallest p exceeds alpha has no power at all, whatever the effect."""
    assert power_in(planned("--effect -50", units_per_arm={"control": 9, "treatment": 1},
                            blocks={"one": {"split": 0}, "two": {"split": 1}}))[0] > 0  # fmt: skip
    assert power_in(planned("--effect -50", design="pairs", units_per_arm=2))[0] == 0
    assert power_in(planned("--effect -50", design="pairs", units_per_arm=4))[0] > 90
    assert "two units of each arm" in planned(units_per_arm=1, blocks={"one": {"split": 0}})[0]
    assert "is a distance" in planned(outcome="standard/delta_eval")[0]


def test_what_is_assumed_is_said(planned):
    said = planned("--control 0.8 --effect -15 --sd 6 --trials 20")[1]
    assert "if 80% becomes 65% and runs have an SD of 6 points (20 simulated trials" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--control 90", "--control must lie between 0 and 1, got 90"),
        ("--effect -95", "--control plus --effect must lie between 0 and 1, got -0.05"),
        ("--effect 0", "--effect must not be 0"),
        ("--sd 30", r"--sd must lie between 0 and 21.2 points for these means, got 30"),
        ("--trials 1", "--trials must be 10 or more, got 1"),
    ],
)
def test_what_no_fraction_can_do_is_refused(planned, words, message):
    with pytest.raises(ValueError, match=message):
        planned(words)


def test_hours_are_those_of_the_units_that_have_finished(enrolled, finish):
    campaign = enrolled(units_per_arm=2)
    with pytest.raises(ValueError, match="none of its 8 units has finished yet"):
        planning.describe_hours(24, campaign.folder)
    outcomes = [finish(campaign, row) for row in campaign.table[:3]]
    mean = sum(sum(o["seconds"].values()) for o in outcomes) / 3
    said = planning.describe_hours(36_000, campaign.folder)
    hours = float(re.search(r"hours: (\S+) CPU hours for 36000 units", said).group(1))
    assert hours == pytest.approx(10 * mean, rel=0.06)
    assert "(mean of 3)" in said


def test_without_a_campaign_the_line_says_how_to_get_hours(capsys):
    options = Namespace(protocol="orl-rct", control=0.9, effect=-10.0, sd=4.0, trials=20, like=None)
    assert planning.plan(options) == 0
    assert "hours: unknown; --like DIR" in capsys.readouterr().out
