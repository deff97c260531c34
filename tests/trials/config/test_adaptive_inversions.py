"""The keys ``students`` and ``smoothing`` of an inversion: read, written, hashed, refused."""

import pytest
import yaml

from atat_ray.inversion.smoothing import Smoothing
from atat_ray.inversion.students import Students
from trials.config.load import check_protocol, read_protocol, with_paths

QUICK = {"preset": "quick"}


def with_keys(content, **keys):
    standard = {**content["inversions"]["standard"], **keys}
    return {**content, "inversions": {"standard": standard}}


def test_presets_and_options_reach_the_units(content):
    keys = {"students": {**QUICK, "noise": 0.1}, "smoothing": {"preset": "taa", "copies": 3}}
    protocol = check_protocol(with_keys(content, **keys), "file.yaml")
    spec = protocol.unit_spec("split-0-01", "split-0", "control")
    assert spec.students == {"standard": Students(**{**Students.presets["quick"], "noise": 0.1})}
    preset = {**Smoothing.presets["taa"], "copies": 3}
    assert spec.smoothing == {"standard": Smoothing(**preset)}
    again = check_protocol(protocol.canonical(), "protocol.json")
    assert again.canonical() == protocol.canonical()
    assert again.unit_spec("split-0-01", "split-0", "control") == spec


@pytest.mark.parametrize("attack", ["if_gmi", "ppdg"])
def test_every_attack_takes_them(content, attack):
    inversion = {"prior": {"name": "warped"}, attack: QUICK, "students": QUICK, "smoothing": QUICK}
    protocol = check_protocol({**content, "inversions": {"standard": inversion}}, "file.yaml")
    assert set(protocol.students()) == set(protocol.smoothing()) == {"standard"}


def test_keys_that_are_not_given_are_in_no_hash(content):
    plain = check_protocol(content, "file.yaml")
    null = check_protocol(with_keys(content, students=None, smoothing=None), "file.yaml")
    assert plain.sha256() == null.sha256()
    assert set(plain.canonical()["inversions"]["standard"]) == {"prior", "ppa"}
    hashes = {
        check_protocol(with_keys(content, **keys), "file.yaml").sha256()
        for keys in ({"students": QUICK}, {"smoothing": QUICK}, {"smoothing": {"preset": "paa"}})
    }
    assert len(hashes | {plain.sha256()}) == 4


def test_relative_paths_are_left_as_they_are(content, tmp_path):
    protocol = check_protocol(with_keys(content, students=QUICK), "file.yaml")
    assert with_paths(protocol, tmp_path).sha256() == protocol.sha256()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"students": {"preset": "quik"}}, "unknown preset 'quik' .did you mean 'quick'"),
        ({"students": {**QUICK, "lables": "hard"}}, "did you mean .*students.labels'"),
        ({"students": {"presett": "quick"}}, "did you mean .*students.preset'"),
        ({"students": {**QUICK, "labels": "hard"}}, "labels: hard has no softmax"),
        ({"students": {**QUICK, "architecture": "resnet9"}}, "unknown architecture 'resnet9'"),
        ({"students": {**QUICK, "augmentation": {"flp": True}}}, "did you mean .*tation.flip'"),
        ({"students": 3}, "standard.students: input should be a dictionary"),
        ({"smoothing": {"copies": 4}}, "averages equal copies"),
        ({"smoothing": {**QUICK, "noise": float("nan")}}, "should be a finite number"),
        ({"smoothing": {"copise": 4, "noise": 0.1}}, "did you mean .*smoothing.copies'"),
        ({"studnets": QUICK}, "did you mean 'inversions.standard.students'"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(content, tmp_path, keys, message):
    path = tmp_path / "file.yaml"
    path.write_text(yaml.safe_dump(with_keys(content, **keys)))
    with pytest.raises(ValueError, match=message) as error:
        read_protocol(str(path))
    said = str(error.value)
    assert "\n" not in said
    line = int(said.removeprefix(f"{path}:").split(":")[0])
    assert line > 1
    first = next(iter(keys))
    assert line >= 1 + next(
        n for n, text in enumerate(path.read_text().splitlines()) if text.strip() == f"{first}:"
        or text.strip().startswith(f"{first}: ")
    )  # fmt: skip


def test_outcomes_of_students_are_allowed_where_there_are_some(content):
    content["outcome"] = "standard/student_acc"
    check_protocol(with_keys(content, students=QUICK), "file.yaml")
    with pytest.raises(ValueError, match="unknown outcome 'standard/student_acc'"):
        check_protocol(content, "file.yaml")
