"""The optional key ``claims`` of a protocol: what it may name, and how a mistake is refused."""

from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from trials.config.claim import Claim
from trials.config.load import check_protocol

CLAIM = {
    "sentence": "Adversarial decoys leak less than noise does, at equal accuracy.",
    "paper": "Privacy comes from non-robust features.",
    "where": "Section 5",
    "estimand": {
        "matched": {
            "curve": ["treatment"],
            "against": ["weak"],
            "control": "control",
            "loss": 0.02,
        }
    },
    "direction": "below",
    "margin": -0.05,
    "truths": {
        "none": {
            "control": {"clean_acc": 0.99, "standard/att_acc_1": 0.9},
            "treatment": {"clean_acc": 0.9, "standard/att_acc_1": 0.7},
            "weak": {"clean_acc": 0.9, "standard/att_acc_1": 0.7},
        }
    },
    "spread": {"clean_acc": 0.02, "standard/att_acc_1": 0.05},
}


def test_the_documented_claim_is_valid():
    page = (Path(__file__).parents[3] / "docs" / "claims.md").read_text()
    first, truths = (block.partition("```")[0] for block in page.split("```yaml\n")[1:])
    content = yaml.safe_load(first + truths)
    (claim,) = (Claim.model_validate(claim) for claim in content["claims"].values())
    assert claim.truths["no-difference"]["control"]["clean_acc"] == 0.99


@pytest.fixture
def with_claim(content):
    """Return a protocol of three arms with a claim."""
    content["arms"]["weak"] = {"defense": "decoy_noise", "weight": 1.0, "epsilon": 0.01}
    return content | {"claims": {"one": deepcopy(CLAIM)}}


def put(content, path, value):
    """Set a value deep in the claim; None removes it."""
    *parents, last = path.split(".")
    inner = content["claims"]["one"]
    for key in parents:
        inner = inner[key]
    if value is None:
        del inner[last]
    else:
        inner[last] = value


def test_a_claim_is_read(with_claim):
    claim = check_protocol(with_claim, "tiny.yaml").claims["one"]
    assert claim.estimand_arms(["control", "treatment", "weak"]) == ["treatment", "weak", "control"]
    assert claim.truths["none"]["weak"]["clean_acc"] == 0.9


def test_a_slope_over_all_arms_needs_truths_of_all(with_claim):
    with_claim["claims"]["one"]["estimand"] = {
        "slope": {"of": "robust_acc/0.01", "beside": ["clean_acc"]}
    }
    del with_claim["claims"]["one"]["truths"]["none"]["weak"]
    with pytest.raises(ValueError, match="the truth none has no means for the arm weak"):
        check_protocol(with_claim, "tiny.yaml")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("direction", "lower", "claims.one.direction: .*'below', 'above' or 'within', got 'lower'"),
        ("sentence", None, "claims.one.sentence is missing"),
        ("margin", "5%", "claims.one.margin: .*got '5%'"),
        ("margn", 0.1, "key .*margn.* .did you mean 'margin'"),
        (
            "estimand",
            {},
            "claims.one.estimand: needs exactly one of contrast, matched, .*; got none",
        ),
        (
            "estimand",
            {"contrast": {}, "slope": {"of": "clean_acc"}},
            "needs exactly one of .*; got contrast and slope",
        ),
        ("estimand.matched.curve", ["treatmnt"], "arm in claim 'treatmnt' .*'treatment'"),
        ("estimand.matched.curve", [], "at least 1 item"),
        ("estimand.matched.loss", 2, "estimand.matched.loss: input should be less than 1, got 2"),
        ("estimand.matched.outcome", "att_acc_1", "outcome in claim 'att_acc_1' .*standard/att_a"),
        ("estimand", {"contrast": {"contrast": "first"}}, "contrast in claim 'first'.*: primary"),
        ("estimand", {"slope": {"of": "robust_acc/0.1"}}, "outcome in claim 'robust_acc/0.1'"),
        ("spread.clean_acc", None, "truths need the spread of each outcome; clean_acc has none"),
        ("truths.none.weak", None, "the truth none has no means for the arm weak"),
        ("truths.none.other", {"clean_acc": 0.9}, "arm in claim 'other'"),
        ("direction", "within", "within needs a positive margin, got -0.05"),
    ],
)
def test_a_mistake_in_a_claim_is_refused_in_one_line(with_claim, path, value, message):
    put(with_claim, path, value)
    with pytest.raises(ValueError, match=message) as refused:
        check_protocol(with_claim, "tiny.yaml")
    assert "\n" not in str(refused.value)
