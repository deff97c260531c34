import hashlib
import io
import os
import random
import zipfile
from dataclasses import dataclass

import pytest
import torch

from atat_ray.utils.atomic_files import write_whole
from atat_ray.utils.hashing import specification_hash
from atat_ray.utils.messages import lines_to
from atat_ray.utils.stage_files import load_stage, payload_hash, read_stage, save_stage


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


@pytest.fixture
def lines():
    """Collect the lines for the user."""
    found = []
    with lines_to(found.append):
        yield found


def stage_bytes(path):
    save_stage(path, "abc", {"state": {"w": torch.arange(300.0)}, "curves": [{"loss": 0.5}]})
    return path.read_bytes()


def test_a_stage_with_any_flipped_bit_is_no_stage_and_is_named(tmp_path, lines):
    path = tmp_path / "train.pt"
    whole, draws = stage_bytes(path), random.Random(0)
    for _ in range(300):
        content = bytearray(whole)
        content[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
        path.write_bytes(content)
        assert load_stage(path, "abc") is None
        assert str(path) in lines.pop()
        assert lines == []
    path.write_bytes(whole)
    assert load_stage(path, "abc") is not None


@pytest.mark.parametrize("harm", ["page", "cut", "longer", "empty", "text", "folder", "list"])
def test_a_stage_that_holds_something_else_is_no_stage_and_is_named(tmp_path, lines, harm):
    path = tmp_path / "train.pt"
    whole = stage_bytes(path)
    if harm == "folder":
        path.unlink()
        path.mkdir()
    elif harm == "list":
        save_stage(path, "abc", {})
        torch.save([1], buffer := io.BytesIO())
        path.write_bytes(buffer.getvalue())
    else:
        path.write_bytes({
            "page": whole[:512] + bytes(512) + whole[1024:],
            "cut": whole[: len(whole) // 2],
            "longer": whole + b"x",
            "empty": b"",
            "text": b"<html>sign in</html>",
        }[harm])  # fmt: skip
    assert load_stage(path, "abc") is None
    (line,) = lines
    assert line.startswith(str(path))
    assert len(line.splitlines()) == 1


def test_no_line_is_told_of_a_stage_that_is_missing_or_of_another_specification(tmp_path, lines):
    stage_bytes(tmp_path / "train.pt")
    assert load_stage(tmp_path / "train.pt", "abd") is None
    assert load_stage(tmp_path / "other.pt", "abc") is None
    assert lines == []


def test_a_stage_is_an_archive_that_torch_reads(tmp_path):
    stage_bytes(tmp_path / "train.pt")
    assert torch.load(tmp_path / "train.pt", weights_only=True)["specification"] == "abc"
    assert zipfile.is_zipfile(tmp_path / "train.pt")


def test_a_file_and_its_folder_reach_the_disk_before_and_after_the_rename(tmp_path, monkeypatch):
    steps, sync, rename = [], os.fsync, os.replace

    def note_sync(number):
        steps.append(os.readlink(f"/proc/self/fd/{number}"))
        sync(number)

    monkeypatch.setattr("os.fsync", note_sync)
    monkeypatch.setattr("os.replace", lambda old, new: (steps.append("rename"), rename(old, new)))
    write_whole(tmp_path / "units" / "one" / "outcome.json", b"new")
    folders = [str(tmp_path), str(tmp_path / "units")]
    assert steps[:2] == folders
    assert os.path.dirname(steps[2]) == str(tmp_path / "units" / "one")
    assert steps[3:] == ["rename", str(tmp_path / "units" / "one")]


def test_the_hash_of_a_payload_depends_on_every_value_type_name_and_shape():
    values = [
        {"a": torch.ones(2, 3)},
        {"a": torch.ones(3, 2)},
        {"a": torch.ones(2, 3).double()},
        {"b": torch.ones(2, 3)},
        {"a": torch.zeros(2, 3)},
        {"a": [1, 2]},
        {"a": [12]},
        {"a": 1.0},
        {"a": torch.tensor(1.0)},
    ]
    assert len({payload_hash(value) for value in values}) == len(values)
    one, other = {"a": 1, "b": torch.ones(1)}, {"b": torch.ones(1), "a": 1}
    assert payload_hash(one) == payload_hash(other)


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "train.pt"
    save_stage(path, "abc", {"state": torch.zeros(2**20)})
    small = io.BytesIO()
    with (
        zipfile.ZipFile(path) as archive,
        zipfile.ZipFile(small, "w", zipfile.ZIP_DEFLATED) as written,
    ):
        for entry in archive.infolist():
            written.writestr(entry.filename, archive.read(entry))
    path.write_bytes(small.getvalue() + hashlib.sha256(small.getvalue()).digest())
    payload, damage = read_stage(path)
    assert payload is None
    assert damage.startswith(f"{path} is no stage file: it unpacks to 41")
