"""Signed files of a unit that hold another shape than was written count as missing."""

import json

import pytest

from atat_ray.utils.json_files import write_signed
from trials.campaign.notes import note_file, read_note, write_note
from trials.campaign.verify_files import damaged_files


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("start", {"order": 1}, {"order": "x"}),
        ("start", {"order": 1}, {}),
        ("place", {"node": "n", "device": "cpu"}, {"node": [], "device": "cpu"}),
        ("lost", {"reasons": ["killed"]}, {"reasons": [1.5]}),
        ("failed", {"reason": "no"}, {"reason": None}),
        ("failed-before", {"failures": [{"reason": "no"}]}, {"failures": [{"reason": 1}]}),
        ("stopped", {"reason": "by ASHA"}, {"reason": ["by ASHA"]}),
        ("options", {"weight": 1.0}, {"weight": "1.0"}),
        ("epochs", {"1": 0.5}, {"one": 0.5}),
    ],
)
def test_a_note_of_another_shape_counts_as_missing(tmp_path, name, good, bad):
    write_note(tmp_path, name, good)
    assert read_note(tmp_path, name) == good
    write_note(tmp_path, name, bad)
    assert read_note(tmp_path, name) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"contents": None},
        {"clean_acc": "high"},
        {"inversions": [0.5]},
        {"robust_acc": {"small": 0.5}},
        {"classes": [{"inversion": "standard"}]},
        {"curves": [{"loss": None}]},
        {"seconds": {"train": []}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_outcome_of_another_shape_counts_as_missing_and_is_named(allocated, finish, change):
    campaign = allocated()
    row = campaign.table[0]
    outcome = finish(campaign, row)
    assert campaign.outcome(row) == json.loads(json.dumps(outcome))
    file = campaign.unit_folder(row.unit_id) / "outcome.json"
    write_signed(file, outcome | change)
    assert campaign.outcome(row) is None
    (damage,) = [line for line in damaged_files(campaign) if line.startswith(str(file))]
    assert damage.startswith(f"{file} is damaged: it/{next(iter(change))}")


def test_a_note_that_is_altered_is_named(allocated):
    campaign = allocated()
    folder = campaign.unit_folder(campaign.table[0].unit_id)
    write_note(folder, "start", {"order": None})
    (damage,) = damaged_files(campaign)
    start = note_file(folder, "start")
    assert damage == f"{start} is damaged: it/order has the wrong type: None"
