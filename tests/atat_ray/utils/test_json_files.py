import json

import pytest

from atat_ray.utils.json_files import NUMBER, Damaged, read_json, read_signed, write_signed

CONTENT = {"order": 3, "place": {"node": "a"}, "values": [0.1, float("inf")]}


def test_a_signed_file_is_read_back(tmp_path):
    path = tmp_path / "deep" / "start.json"
    write_signed(path, {**CONTENT, 7: (1, 2)})
    assert read_signed(path) == {**CONTENT, "7": [1, 2]}


def test_a_signed_file_whose_content_was_changed_is_damaged(tmp_path):
    path = tmp_path / "start.json"
    write_signed(path, CONTENT)
    for old, new in [('"order": 3', '"order": 7'), ("order", "ordes"), ('"sha256"', '"sha257"')]:
        text = path.read_text()
        path.write_text(text.replace(old, new))
        with pytest.raises(Damaged, match="is damaged: its content has another sha256"):
            read_signed(path)
        path.write_text(text)
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert read_signed(path) == CONTENT


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"[1]", "it holds no JSON object"),
        (b"null", "it holds no JSON object"),
        (b'{"a": 1', "it is not JSON"),
        (b'{"a": \x00}', "it is not JSON"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
        (b"\x1f\x8b", "byte 1 is not UTF-8"),
        (b'{"a": ' + b"[" * 100_000, "it is nested too deeply"),
        (b'{"a": ' * 100_000 + b"1" + b"}" * 100_000, "it is nested too deeply"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "it is not JSON"),
        (b" " * (2**24 + 1), "it is larger than 16 MiB"),
    ],
    ids=range(12),
)
@pytest.mark.parametrize("read", [read_json, read_signed])
def test_a_file_that_holds_no_json_object_is_named_in_one_line(tmp_path, raw, problem, read):
    path = tmp_path / "campaign.json"
    path.write_bytes(raw)
    with pytest.raises(Damaged, match=problem) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path} cannot be read: ")
    assert len(str(caught.value).splitlines()) == 1


def test_nesting_at_any_depth_gives_a_value_or_one_line(tmp_path):
    path = tmp_path / "start.json"
    for depth in (10, 500, 900, 950, 980, 1000, 2000, 5000):
        path.write_text('{"a": ' + "[" * depth + "]" * depth + "}")
        with pytest.raises(Damaged):
            read_signed(path)


def test_a_missing_file_is_told_from_a_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "start.json")
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "file" / "start.json")
    with pytest.raises(Damaged, match="Is a directory"):
        read_json(tmp_path)


SHAPE = {
    "reason": str,
    "counts": [int],
    "by_name": {str: NUMBER},
    "at": {float: str},
    "more": list | None,
}
FITS = {"reason": "r", "counts": [1, 2], "by_name": {"a": 1.5, "b": 2}, "at": {"1e-3": ""}, "o": 1}


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"reason": None}, "it/reason has the wrong type: None"),
        ({"counts": [1, "x"]}, "it/counts[1] has the wrong type: 'x'"),
        ({"counts": {}}, "it/counts has the wrong type: {}"),
        ({"by_name": {"a": "\x1b[2J" * 99}}, "it/by_name/a has the wrong type"),
        ({"counts": [10**400]}, "it/counts[0] is too large a number"),
        ({"by_name": {"a": -(2**64)}}, "it/by_name/a is too large a number"),
        ({"at": {"1": "", "one": ""}}, "it/at has a key that is no float: 'one'"),
        ({"by_name": [1]}, "it/by_name has the wrong type: [1]"),
        ({"more": 1}, "it/more has the wrong type: 1"),
    ],
)
def test_a_signed_file_of_another_shape_is_damaged_and_its_part_is_named(tmp_path, change, wrong):
    path = tmp_path / "note.json"
    write_signed(path, FITS)
    assert read_signed(path, shape=SHAPE) == FITS
    write_signed(path, FITS | change)
    with pytest.raises(Damaged) as error:
        read_signed(path, shape=SHAPE)
    assert str(error.value).startswith(f"{path} is damaged: {wrong}")
    assert str(error.value).isprintable()
    assert len(error.value.problem) < 200
