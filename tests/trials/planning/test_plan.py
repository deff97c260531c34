"""Power, hours and assumptions that ``atat plan`` prints."""

import re
from dataclasses import replace

import pytest
from scipy import stats

from atat_ray.unit.measured_speed import Rates
from trials.allocation import strata
from trials.cli import program as cli
from trials.cli.parser import parser
from trials.config.load import read_protocol
from trials.planning import hours
from trials.planning import plan as planning


@pytest.fixture
def planned(tiny_protocol):
    """Return a function that gives the lines on power of a protocol with command-line options."""

    def lines(words="", **changes):
        protocol = tiny_protocol(**{"units_per_arm": 6, **changes})
        options = parser().parse_args(["plan", "any", *words.split()])
        return planning.describe_power(protocol, strata(protocol), options)

    return lines


def power_in(lines):
    return [
        float(n) for n in re.search(r"power of primary: (\d+)% \(([\d.]+)%\)", lines[0]).groups()
    ]


def test_power_equals_that_of_the_t_test_for_nearly_normal_outcomes(planned):
    """Twelve units per arm in two blocks: noncentral t with 21 degrees of freedom."""
    power, error = power_in(planned("--control 0.5 --effect -5 --sd 4"))
    shift, critical = 5 / (4 * (2 / 12) ** 0.5), stats.t.ppf(0.975, 21)
    theory = stats.nct.sf(critical, 21, shift) + stats.nct.cdf(-critical, 21, shift)
    assert power == pytest.approx(100 * theory, abs=4 * error + 1)
    assert error == pytest.approx((power * (100 - power) / 500) ** 0.5, abs=0.06)


def test_power_falls_with_the_standard_deviation_and_rises_with_the_effect(planned):
    powers = [power_in(planned(f"--effect {e} --sd {s} --trials 200"))[0]
              for e, s in ((-4, 4), (-4, 8), (-8, 8))]  # fmt: skip
    assert powers[1] < powers[0] - 10
    assert powers[2] > powers[1] + 10


def test_the_design_of_the_primary_contrast_is_simulated(planned):
    """A design whose smallest p exceeds alpha has power 0 at any effect."""
    assert power_in(planned("--effect -50", units_per_arm={"control": 9, "treatment": 1},
                            blocks={"one": {"split": 0}, "two": {"split": 1}}))[0] > 0  # fmt: skip
    assert power_in(planned("--effect -50", design="pairs", units_per_arm=2))[0] == 0
    assert power_in(planned("--effect -50", design="pairs", units_per_arm=4))[0] > 90
    assert "two units of each arm" in planned(units_per_arm=1, blocks={"one": {"split": 0}})[0]
    assert "is a distance" in planned(outcome="standard/delta_eval")[0]


def test_the_looks_are_simulated_and_printed(planned):
    """The thresholds of the looks replace alpha, so the power is lower than without looks."""
    blocks = {"blocks": {"one": {"split": 0}, "two": {"split": 1}}, "units_per_arm": 4}
    words = "--effect -8 --sd 5 --trials 200"
    plain = planned(words, **blocks)
    looks = planned(words, **blocks, looks={"blocks": [1, 2], "spending": "pocock"})
    assert "over the looks after blocks 1 (p <= 0.031), 2 (p <= 0.019);" in looks[0]
    assert power_in(looks)[0] < power_in(plain)[0]
    assert re.search(r"without an effect \d+\.\d% \(\d+\.\d%\) of such trials", looks[2])


def test_the_assumptions_are_printed(planned):
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
def test_impossible_assumptions_are_refused(planned, words, message):
    with pytest.raises(ValueError, match=message):
        planned(words)


def test_hours_come_from_the_mean_duration_of_finished_units(allocated, finish):
    campaign = allocated(units_per_arm=2)
    with pytest.raises(ValueError, match="none of its 8 units has finished yet"):
        planning.describe_hours(24, campaign.folder)
    outcomes = [finish(campaign, row) for row in campaign.table[:3]]
    mean = sum(sum(o["seconds"].values()) for o in outcomes) / 3
    said = planning.describe_hours(36_000, campaign.folder)
    hours = float(re.search(r"hours: (\S+) CPU hours for 36000 units", said).group(1))
    assert hours == pytest.approx(10 * mean, rel=0.06)
    assert "(mean of 3)" in said


def test_without_a_campaign_the_line_says_how_to_estimate_hours():
    options = parser().parse_args(["plan", "orl-rct", "--trials", "20"])
    assert [*planning.describe_plan(options)][-1].startswith("hours: unknown; --like DIR")


RATES = Rates(train=0.5, forward=0.1, gradient=0.3, inversions={"standard": 8.0})


def test_the_hours_of_a_unit_scale_with_the_images_of_the_protocol(tiny_protocol):
    spec = tiny_protocol().unit_spec("any", "split-0", "control")
    train = 2 * 6 * 7 * 0.5  # epochs, people, images
    robust = 6 * 3 * (2 * 10 * 0.3)  # people, test images, two attacks of ten steps at one epsilon
    assert hours.unit_seconds(spec, RATES) == pytest.approx(train + robust + 8.0)


def test_images_of_a_missing_dataset_are_counted_as_published():
    spec = read_protocol("facescrub-rct").unit_spec("any", "split-0", "control")
    data = replace(spec.block.data, root="/nowhere")
    assert hours.count_images(data, 0) == (34_090, 3_788)
    with pytest.raises(ValueError, match="cannot be counted, because .* no folder /nowhere; corre"):
        hours.count_images(replace(data, name="image_folder"), 0)


def test_a_probe_measures_every_kind_and_counts_every_unit(tiny_protocol):
    first, second, *lines = hours.describe_probe(tiny_protocol(units_per_arm=3))
    assert first == "[1/2] measuring control in split-0"
    assert second == "[2/2] measuring treatment in split-0"
    total = float(re.search(r"hours: (\S+) CPU hours for 12 units", lines[0]).group(1))
    kinds = [re.search(r": (\S+) hours a unit, (\d+) units", line).groups() for line in lines[1:3]]
    assert [int(units) for _, units in kinds] == [6, 6]
    assert sum(float(each) * 6 for each, _ in kinds) == pytest.approx(total, rel=0.1)


def test_the_plan_of_a_sweep_lists_its_points(capsys):
    assert cli.main(["plan", "lambda-epsilon-sweep"]) == 0
    out = capsys.readouterr().out
    assert "12 points by grid: weight [0.02, 0.08, 0.32, 1.28]; epsilon" in out
    assert "no p and no power" in out
    assert "hours: unknown" in out
