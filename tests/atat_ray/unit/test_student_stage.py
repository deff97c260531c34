"""Students of a unit: no private image, trained once, resumed, in the hash, measured."""

from dataclasses import fields, replace

import pytest
import torch

from atat_ray.data import Faces, load_split
from atat_ray.inversion.students import Distillation, MeanLogSoftmax, Students
from atat_ray.priors import PRIORS
from atat_ray.unit import run_unit, student_stage
from atat_ray.unit.inputs import unit_sources
from atat_ray.unit.invert_stage import invert_stage
from atat_ray.unit.measured_speed import measure_rates
from atat_ray.unit.rehearsal import rehearse, shrink
from atat_ray.unit.run import stage_files
from atat_ray.unit.train_stage import load_target, train_stage
from trials.config.load import read_protocol

PRIOR = {"name": "rotated_pca", "num_components": 20, "num_faces": 100}
STUDENTS = {"preset": "quick", "samples": 24, "steps": 3, "batch_size": 8}
SMOOTHING = {"preset": "quick", "copies": 2}


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    return tmp_path_factory.mktemp("assets")


@pytest.fixture
def spec(tiny_protocol, content):
    ppa = content["inversions"]["standard"]["ppa"]
    beside = {
        "standard": {},
        "both": {"students": {**STUDENTS, "with_target": True}, "smoothing": SMOOTHING},
        "alone": {"students": STUDENTS},
        "smoothed": {"smoothing": SMOOTHING},
    }
    inversions = {name: {"prior": PRIOR, "ppa": ppa, **more} for name, more in beside.items()}
    protocol = tiny_protocol(inversions=inversions, robustness={"attacks": "apgd-10",
                                                                "epsilons": []})  # fmt: skip
    return protocol.unit_spec("split-0-01", "split-0", "control")


@pytest.fixture
def trained(spec, tmp_path):
    folder = tmp_path / "unit"
    train_stage(spec, folder)
    return folder


def states_of(spec, assets, folder, inversion="alone"):
    return student_stage.student_stage(spec, inversion, assets, folder)["states"]


def equal(states, others):
    pairs = zip(states, others, strict=True)
    return all(torch.equal(one[key], other[key]) for one, other in pairs for key in one)


def test_students_are_the_same_whatever_the_private_images_are(
    spec, assets, trained, tmp_path, monkeypatch
):
    """Private images that are not numbers would spread to every weight of a student."""
    first = states_of(spec, assets, trained)
    assert all(tensor.isfinite().all() for state in first for tensor in state.values())
    true_split = load_split(spec.block.data, 0)

    def hidden(faces):
        return Faces(images=torch.full_like(faces.images, torch.nan), labels=faces.labels)

    without = replace(true_split, **{
        name: hidden(getattr(true_split, name)) for name in ("train", "recognised", "test")
    })  # fmt: skip
    names = {f.name for f in fields(without) if isinstance(getattr(without, f.name), Faces)}
    assert names == {"train", "recognised", "test", "public"}
    monkeypatch.setattr(student_stage, "load_split", lambda data, split: without)
    (trained / "students-alone.pt").unlink()
    assert equal(states_of(spec, assets, trained), first)


def test_the_distillation_is_handed_public_images_only(spec, assets, trained, monkeypatch):
    handed = []
    true_init = Distillation.__init__

    def noting(self, student, target, options, **more):
        handed.append(more)
        true_init(self, student, target, options, **more)

    monkeypatch.setattr(Distillation, "__init__", noting)
    states_of(spec, assets, trained)
    assert len(handed) == 2
    split = load_split(spec.block.data, 0)
    for more in handed:
        assert set(more) == {"samples", "public", "device", "seeds"}
        assert torch.equal(more["public"], split.public.images)
        assert more["samples"].shape == (24, 1, 32, 32)


def test_a_unit_trains_shared_students_once_and_measures_them(spec, assets, tmp_path, monkeypatch):
    runs, true_run = [], Distillation.run

    def counting(self):
        runs.append(self)
        true_run(self)

    monkeypatch.setattr(Distillation, "run", counting)
    stages, folder = [], tmp_path / "unit"
    outcome = run_unit(spec, assets=assets, folder=folder, on_stage=stages.append)
    assert len(runs) == 2
    assert [stage for stage in stages if "students" in stage] == ["students alone"]
    assert outcome["seconds"]["students_alone"] > 0
    left = [path.relative_to(folder).as_posix() for path in folder.rglob("*.pt")]
    assert sorted(left) == sorted(stage_files(spec, outcome))

    found = outcome["inversions"]
    with_students = {name.split("/")[0] for name in found if name.endswith("/student_acc")}
    assert with_students == {"alone", "both"}
    assert found["alone/student_acc"] == found["both/student_acc"]
    split = load_split(spec.block.data, 0)
    students = student_stage.load_students(spec, "both", assets, folder)
    mean = sum(student(split.test.images).softmax(1).log() for student in students)
    right = (mean.argmax(1) == split.test.labels).float().mean()
    assert found["alone/student_acc"] == pytest.approx(float(right))
    assert 0 <= found["alone/student_agreement"] <= 1

    target = load_target(spec, split, folder)
    for name in ("standard", "alone", "smoothed"):
        stored = torch.load(folder / f"invert-{name}.pt", weights_only=True)
        images, classes = stored["images"].float() / 255, stored["classes"]
        sure = target(images).softmax(1).gather(1, classes[:, None]).mean().detach()
        assert found[f"{name}/target_confidence"] == pytest.approx(float(sure), abs=0.002)


def test_an_adapted_inversion_changes_nothing_of_a_plain_one(spec, assets, trained):
    one = invert_stage(spec, "standard", assets, trained)
    (trained / "invert-standard.pt").unlink()
    plain = {"standard": spec.inversions["standard"]}
    alone = replace(spec, inversions=plain, students={}, smoothing={})
    other = invert_stage(alone, "standard", assets, trained)
    assert alone.invert_hash("standard") == spec.invert_hash("standard")
    assert torch.equal(one["images"].pixels, other["images"].pixels)
    assert all(torch.equal(one[key], other[key]) for key in ("latents", "confidence"))


def test_an_interrupted_stage_keeps_the_students_that_are_done(spec, assets, trained, monkeypatch):
    runs, true_run = [], Distillation.run

    def second_is_killed(self):
        runs.append(self)
        if len(runs) == 2:
            raise KeyboardInterrupt
        true_run(self)

    monkeypatch.setattr(Distillation, "run", second_is_killed)
    with pytest.raises(KeyboardInterrupt):
        states_of(spec, assets, trained)
    resumed = states_of(spec, assets, trained)
    assert len(runs) == 3
    (trained / "students-alone.pt").unlink()
    assert equal(states_of(spec, assets, trained), resumed)
    assert len(runs) == 5


def test_the_attacked_network_is_what_the_inversion_says(spec, assets, trained):
    split = load_split(spec.block.data, 0)
    images = split.test.images[:3]
    students = student_stage.load_students(spec, "alone", assets, trained)
    target = load_target(spec, split, trained)
    attacked = {
        name: student_stage.load_attacked(spec, name, split, assets, trained)
        for name in spec.inversions
    }
    logs = [network(images).log_softmax(1) for network in (target, *students)]
    assert torch.equal(attacked["standard"](images), target(images))
    assert torch.allclose(attacked["alone"](images), (logs[1] + logs[2]) / 2)
    assert torch.allclose(attacked["both"].network(images), sum(logs) / 3)
    assert isinstance(attacked["both"].network, MeanLogSoftmax)
    assert attacked["both"].options == spec.smoothing["both"]
    assert torch.equal(attacked["smoothed"].network(images), target(images))


CHANGES = {
    "count": 3, "samples": 25, "steps": 4, "batch_size": 9, "learning_rate": 0.1,
    "weight_decay": 0.5, "noise": 0.3, "temperature": 1.0, "architecture": "resnet18",
}  # fmt: skip


def test_the_hashes_depend_on_what_the_results_depend_on(spec):
    before = spec.students_hash("alone"), spec.invert_hash("alone")
    for name, value in CHANGES.items():
        changed = replace(spec.students["alone"], **{name: value})
        other = replace(spec, students={**spec.students, "alone": changed})
        assert other.students_hash("alone") != before[0], name
        assert other.invert_hash("alone") != before[1], name
        assert other.first_with_students("both") == "both"
        assert other.train_hash() == spec.train_hash()
        assert other.invert_hash("standard") == spec.invert_hash("standard")
    together = replace(spec.students["alone"], with_target=True)
    other = replace(spec, students={**spec.students, "alone": together})
    assert other.students_hash("alone") == before[0]
    assert other.invert_hash("alone") != before[1]
    assert other.outcome_hash() != spec.outcome_hash()
    rougher = replace(spec, smoothing={
        **spec.smoothing, "smoothed": replace(spec.smoothing["smoothed"], noise=0.1)
    })  # fmt: skip
    assert rougher.invert_hash("smoothed") != spec.invert_hash("smoothed")
    assert rougher.invert_hash("alone") == before[1]


def test_students_are_shared_only_with_the_same_prior_in_any_order(spec):
    assert spec.first_with_students("both") == "alone"
    assert spec.students_hash("both") == spec.students_hash("alone")
    backwards = replace(spec, students=dict(reversed(spec.students.items())))
    assert backwards.students_hash("both") == spec.students_hash("both")
    other = PRIORS["rotated_pca"](num_components=21, num_faces=100)
    block = replace(spec.block, priors={**spec.block.priors, "alone": other})
    assert replace(spec, block=block).first_with_students("both") == "both"


def test_units_without_these_options_have_the_hashes_that_they_had():
    spec = read_protocol("orl-rct").unit_spec("split-10-01", "split-10", "treatment")
    assert spec.invert_hash("standard").startswith("454bceba0608eb11")
    assert spec.score_hash().startswith("ca7574073743f5be")
    assert spec.outcome_hash().startswith("98c8c996fbe86269")


def test_a_unit_with_students_is_rehearsed_and_its_hours_are_estimated(spec, tmp_path, monkeypatch):
    small, _ = shrink(spec, tmp_path, narrow=True)
    assert {s.steps for s in small.students.values()} == {1}
    assert small.first_with_students("both") == "alone"
    steps = rehearse(small, tmp_path / "assets", tmp_path / "unit", lambda step: None)
    assert [step.problem for step in steps if step.problem] == []
    assert "students alone" in [step.stage for step in steps]

    monkeypatch.setattr(
        "atat_ray.unit.measured_speed.fastest_seconds", lambda device, work: (work(), 1.0)[1]
    )
    rates = measure_rates(spec, small, tmp_path / "assets").inversions
    # A step of 8 images takes a second here: two students of three steps.
    assert rates["alone"] > 6 > rates["both"] > rates["smoothed"] > 0


def test_the_weights_of_students_are_among_the_inputs(spec):
    start = replace(spec.training, weights="imagenet")
    other = Students(**{**Students.presets["quick"], "architecture": "resnet34"})
    with_students = replace(
        spec, training=start, architecture="resnet18", students={"alone": other}
    )
    names = set(unit_sources(with_students))
    assert {"ImageNet weights of resnet18", "ImageNet weights of resnet34"} <= names
