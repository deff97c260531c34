"""The verdict on a claim in the report and in the record, and its recomputation."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from analysis import schema
from analysis.record.reader import load_record
from analysis.report.files import conclude
from analysis.secondary.claims import changed_verdicts

CLAIM = {
    "sentence": "Anti-adversarial training leaks at least 5 points less than plain training.",
    "paper": "It lowers leakage from 84 to 6.5 percent.",
    "where": "Section 5",
    "estimand": {"contrast": {"contrast": "primary", "outcome": None}},
    "direction": "below",
    "margin": -0.05,
}


@pytest.fixture(scope="module")
def concluded(writer, make_protocol, tmp_path_factory):
    """Write the report of a finished campaign with a claim; return campaign and report."""
    campaign = writer.campaign(make_protocol("claimed", claims={"first": CLAIM}), seed=3)
    return campaign, conclude(*campaign, tmp_path_factory.mktemp("claim"))


def test_the_page_states_claim_finding_verdict_and_rule(concluded):
    page = concluded[1].page.read_text()
    assert "<h2>Claims</h2>" in page
    assert CLAIM["sentence"] in page
    assert "The paper (Section 5): It lowers leakage from 84 to 6.5 percent." in page
    assert "Supported: AttAcc@1 (standard inversion) of treatment minus that of control is" in page
    assert "wholly below the margin" in page
    assert "contradicted where it lies wholly on the other side" in page


def test_the_table_of_the_claim_has_its_numbers(concluded):
    row = (concluded[1].tables / "claims.csv").read_text().splitlines()[1]
    assert "first,supported,-" in row
    assert row.endswith(",-5.0,below,pp")


def test_a_report_without_a_claim_has_no_such_section(finished, tmp_path):
    assert "<h2>Claims</h2>" not in conclude(*finished, tmp_path, log=False).page.read_text()


def test_the_recorded_verdict_is_recomputed(concluded):
    record = load_record(*concluded[0])
    assert json.loads(record.tags[schema.CLAIM_PREFIX + "first"])["verdict"] == "supported"
    assert changed_verdicts(record) == []


def test_another_verdict_than_the_recorded_one_is_named(concluded):
    record = load_record(*concluded[0])
    units = record.units.assign(**{"standard/att_acc_1": record.units["strong/att_acc_1"]})
    (line,) = changed_verdicts(replace(record, units=units))
    assert line.startswith("the evidence on the claim first is recorded as 'Supported: ")
    told = {**json.loads(record.tags[schema.CLAIM_PREFIX + "first"]), "verdict": "contradicted"}
    tags = {**record.tags, schema.CLAIM_PREFIX + "first": json.dumps(told)}
    (line,) = changed_verdicts(replace(record, tags=tags))
    assert line == (
        "the verdict on the claim first is recorded as 'contradicted', the record gives 'supported'"
    )


def test_units_that_finished_after_the_report_are_not_a_difference(concluded):
    record = load_record(*concluded[0])
    units = record.units.copy()
    units.loc[0, "status"] = schema.PENDING
    assert changed_verdicts(replace(record, units=units)) == []


def test_a_tag_that_is_no_json_is_one_line(concluded):
    record = load_record(*concluded[0])
    with pytest.raises(ValueError, match="claim"):
        changed_verdicts(replace(record, tags={**record.tags, schema.CLAIM_PREFIX + "first": "[1"}))


def test_pending_units_leave_the_claim_undecided(writer, make_protocol, tmp_path):
    campaign = writer.campaign(
        make_protocol("begun", claims={"first": CLAIM}), seed=3, pending={1, 5}
    )
    page = conclude(*campaign, tmp_path, log=False).page.read_text()
    assert "Undecided: 2 units of 24 have not ended. So far: AttAcc@1" in page
