"""Texts of protocols, records and folders are printed without what a terminal acts on."""

import pytest

from trials.campaign.campaign import Campaign
from trials.campaign.notes import write_note
from trials.cli import program as cli
from trials.execution.display import Lines

EVIL = "a\x1b[2Jb\x1b]0;title\x07\rc"
SHOWN = r"a\x1b[2Jb\x1b]0;title\x07\rc"


@pytest.fixture
def said(capsys):
    """Return a function that runs a command and returns what it printed, free of control marks."""

    def call(*words):
        cli.main([str(word) for word in words])
        printed = capsys.readouterr()
        text = printed.out + printed.err
        assert text.replace("\n", "").isprintable()
        return text

    return call


def test_plan_prints_a_question_with_its_control_characters_escaped(said, content, write_protocol):
    content["question"] = EVIL
    assert SHOWN in said("plan", write_protocol(content), "--trials", 10)


def test_an_error_names_a_value_with_its_control_characters_escaped(said, content, write_protocol):
    content["architecture"] = EVIL
    assert SHOWN in said("plan", write_protocol(content))
    assert SHOWN in said("plan", EVIL)


def test_status_prints_a_reason_with_its_control_characters_escaped(said, tiny_protocol, tmp_path):
    campaign = Campaign.create_or_resume(tiny_protocol(), tmp_path / "runs" / "tiny", None)
    unit_id = campaign.table[0].unit_id
    write_note(campaign.unit_folder(unit_id), "failed", {"reason": EVIL})
    assert f"{unit_id} failed: {SHOWN}" in said("status", "tiny")


def test_data_check_prints_names_of_folders_with_their_control_characters_escaped(said, tmp_path):
    for name in ("a\x1b[2Jb", "c"):
        (tmp_path / "faces" / name).mkdir(parents=True)
    assert r"a\x1b[2Jb" in said("data", "check", "image_folder", "--root", tmp_path / "faces")


def test_a_line_of_a_run_is_printed_with_its_control_characters_escaped(capsys):
    Lines().say(f"unit failed: {EVIL}")
    assert capsys.readouterr().out == f"unit failed: {SHOWN}\n"
