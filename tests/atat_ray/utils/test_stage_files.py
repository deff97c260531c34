from dataclasses import dataclass

import pytest
import torch

from atat_ray.utils.atomic_files import write_whole
from atat_ray.utils.hashing import specification_hash
from atat_ray.utils.stage_files import load_stage, save_stage


@dataclass(frozen=True)
class One:
    value: float


@dataclass(frozen=True)
class Two:
    value: float


def test_a_specification_is_named_by_values_and_kind():
    assert specification_hash("x", One(1.0)) == specification_hash("x", One(1.0))
    hashes = {
        specification_hash("x", One(1.0)),
        specification_hash("x", One(1.5)),
        specification_hash("x", Two(1.0)),
        specification_hash("y", One(1.0)),
        specification_hash("x", {"a": One(1.0)}),
        specification_hash("x", [One(1.0)]),
    }
    assert len(hashes) == 6


def test_a_stage_is_read_back_only_by_its_own_specification(tmp_path):
    path = tmp_path / "deep" / "train.pt"
    save_stage(path, "abc", {"state": {"w": torch.ones(2)}, "seconds": 1.5})
    loaded = load_stage(path, "abc")
    assert loaded is not None
    assert torch.equal(loaded["state"]["w"], torch.ones(2))
    assert load_stage(path, "abd") is None
    assert [file.name for file in path.parent.iterdir()] == ["train.pt"]


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_truncated_file_is_no_stage(tmp_path, keep):
    path = tmp_path / "train.pt"
    save_stage(path, "abc", {"state": torch.ones(200)})
    path.write_bytes(path.read_bytes()[:keep])
    assert load_stage(path, "abc") is None


def test_a_file_of_another_kind_is_no_stage(tmp_path):
    assert load_stage(tmp_path / "nothing.pt", "abc") is None
    torch.save([1, 2], tmp_path / "list.pt")
    assert load_stage(tmp_path / "list.pt", "abc") is None


def test_a_write_that_fails_leaves_the_old_file_and_no_temporary_one(tmp_path, monkeypatch):
    path = tmp_path / "outcome.json"
    write_whole(path, b"old")

    def full(*words):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["outcome.json"]
