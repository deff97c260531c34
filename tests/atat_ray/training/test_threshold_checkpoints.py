"""Models stored at accuracy thresholds: when, which, and that no outcome changes."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from atat_ray.training import Training
from atat_ray.training.threshold_checkpoints import (
    checkpoint_name,
    list_at_thresholds,
    save_at_thresholds,
)
from atat_ray.unit import run_unit
from atat_ray.unit.train_stage import load_target, train_stage
from atat_ray.utils.hashing import specification_hash
from atat_ray.utils.json_files import read_signed
from atat_ray.utils.stage_files import load_stage


def test_the_first_model_within_a_quarter_of_a_point_is_stored(tmp_path):
    model = nn.Linear(1, 1, bias=False)
    for epoch, clean_acc in enumerate([0.5, 0.897, 0.8975, 0.9, 0.9026, 0.905], 1):
        model.weight.data.fill_(epoch)
        save_at_thresholds(
            model, (0.9, 0.905, 0.95), folder=tmp_path, specification="a", epoch=epoch,
            clean_acc=clean_acc,
        )  # fmt: skip
    kept = list_at_thresholds((0.9, 0.905, 0.95), folder=tmp_path, specification="a")
    assert kept == {
        "train-acc-0.90.pt": {"epoch": 3, "clean_acc": 0.8975},
        "train-acc-0.905.pt": {"epoch": 5, "clean_acc": 0.9026},
    }
    payload = load_stage(tmp_path / "train-acc-0.90.pt", "a")
    assert payload is not None
    assert payload["state"]["weight"].item() == 3
    assert list_at_thresholds((0.9,), folder=tmp_path, specification="another") == {}


def test_files_are_named_by_two_digits_or_more():
    names = [checkpoint_name(threshold) for threshold in (0.9, 0.91, 0.905)]
    assert names == ["train-acc-0.90.pt", "train-acc-0.91.pt", "train-acc-0.905.pt"]


def test_thresholds_are_part_of_the_hash_and_those_that_are_no_accuracies_are_refused():
    plain = Training(epochs=1, batch_size=2, learning_rate=0.1, weight_decay=0)
    assert specification_hash(plain) != specification_hash(replace(plain, thresholds=(0.9,)))
    with pytest.raises(ValueError, match=r"thresholds are accuracies in \(0, 1\), got \(90,"):
        replace(plain, thresholds=(90,))


def test_a_unit_lists_the_stored_models_and_its_outcome_is_the_same(tiny_protocol, tmp_path):
    spec = tiny_protocol().unit_spec("split-0-01", "split-0", "control")
    plain = run_unit(spec, assets=tmp_path / "assets", folder=tmp_path / "plain")
    accuracy = plain["clean_acc"]
    watched = replace(spec, training=replace(spec.training, thresholds=(accuracy, 0.999)))
    outcome = run_unit(watched, assets=tmp_path / "assets", folder=tmp_path / "watched")
    (kept,) = outcome["selected_after_treatment"].values()
    assert kept["clean_acc"] == pytest.approx(accuracy, abs=0.0025)
    assert read_signed(tmp_path / "watched" / "outcome.json") == outcome
    assert "selected_after_treatment" not in plain
    for name in ("clean_acc", "inversions", "robust_acc", "curves"):
        assert outcome[name] == plain[name]
    assert train_stage(watched, tmp_path / "watched")["clean_acc"] == accuracy
    assert isinstance(load_target(watched, split_of(watched), tmp_path / "watched"), nn.Module)
    assert torch.get_num_threads() == 1


def split_of(spec):
    from atat_ray.data import load_split

    return load_split(spec.block.data, spec.block.split)
