import shutil

import pytest
import torch

from atat_ray.data import load_split
from atat_ray.data.readers.orl_faces import default_root
from atat_ray.evaluation.scoring import select_reported_stage
from atat_ray.inversion import selection
from atat_ray.unit import invert_stage as stage
from atat_ray.unit import read_outcome, run_unit
from atat_ray.unit.block_assets import build_prior
from atat_ray.unit.run import stage_files
from atat_ray.unit.train_stage import load_target, new_target
from atat_ray.utils.json_files import read_signed
from atat_ray.utils.messages import lines_to

STAGES = ["train.pt", "invert-standard.pt", "score.pt", "robustness.pt", "outcome.json"]


@pytest.fixture
def spec(tiny_protocol):
    return tiny_protocol().unit_spec("split-0-01", "split-0", "treatment")


@pytest.fixture(scope="session")
def assets(tmp_path_factory):
    return tmp_path_factory.mktemp("assets")


def without_times(outcome):
    return {key: value for key, value in outcome.items() if key != "seconds"}


def content(folder):
    """All stored results of a unit, without durations."""
    found = {}
    for name in STAGES[:-1]:
        payload = torch.load(folder / name, weights_only=True)
        payload.pop("seconds")
        found[name] = payload
    return found


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


@pytest.fixture
def finished(spec, assets, tmp_path):
    folder = tmp_path / "unit"
    return run_unit(spec, assets=assets, folder=folder), folder


def test_a_finished_unit_leaves_the_stage_files_that_are_named(spec, finished):
    outcome, folder = finished
    left = [path.relative_to(folder).as_posix() for path in folder.rglob("*.pt")]
    assert sorted(left) == sorted(stage_files(spec, outcome))


def test_an_outcome_has_what_the_schema_names(finished):
    from analysis import schema

    outcome, folder = finished
    assert set(outcome["inversions"]) == {f"standard/{name}" for name in schema.INVERSION_OUTCOMES}
    assert set(outcome["robust_acc"]) == {"0.01"}
    assert len(outcome["classes"]) == 6
    assert set(outcome["classes"][0]) == set(schema.CLASS_COLUMNS)
    assert all(0 <= value <= 2 for value in outcome["inversions"].values())
    assert sorted(path.name for path in folder.iterdir()) == sorted(STAGES)
    assert read_signed(folder / "outcome.json") == outcome


def test_class_counts_add_up_to_the_attack_accuracies(finished):
    outcome, _ = finished
    n = sum(row["n"] for row in outcome["classes"])
    assert n == 6 * 2
    for column, name in [("k_1", "att_acc_1"), ("k_5", "att_acc_5"), ("lda_k_1", "lda_att_acc_1")]:
        total = sum(row[column] for row in outcome["classes"])
        assert total / n == pytest.approx(outcome["inversions"][f"standard/{name}"])


def test_a_finished_unit_is_not_run_again(spec, assets, finished, monkeypatch):
    outcome, folder = finished
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setattr("atat_ray.unit.run.train_stage", None)
    assert run_unit(spec, assets=assets, folder=folder) == outcome
    assert times == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.mark.parametrize("last", range(len(STAGES)))
def test_a_unit_killed_before_any_stage_ends_resumes_to_the_same_content(
    spec, assets, finished, last
):
    outcome, folder = finished
    before, done = content(folder), STAGES[:last]
    times = {name: (folder / name).stat().st_mtime_ns for name in done}
    for name in STAGES[last:]:
        (folder / name).unlink()
    (folder / f".{STAGES[last]}.123").write_bytes(b"half")  # what a killed process leaves
    again = run_unit(spec, assets=assets, folder=folder)
    assert without_times(again) == without_times(outcome)
    assert equal(content(folder), before)
    assert times == {name: (folder / name).stat().st_mtime_ns for name in done}


def flip(path):
    """Flip a bit in the middle of a file, where torch finds nothing wrong with it."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


@pytest.mark.parametrize("last", range(len(STAGES)))
def test_a_damaged_stage_is_named_and_done_again_with_the_same_content(
    spec, assets, finished, last
):
    outcome, folder = finished
    before = content(folder)
    for name in STAGES[last:]:
        flip(folder / name)
    lines = []
    with lines_to(lines.append):
        again = run_unit(spec, assets=assets, folder=folder)
    assert without_times(again) == without_times(outcome)
    assert equal(content(folder), before)
    for name in STAGES[last:]:
        assert [line.startswith(str(folder / name)) for line in lines].count(True) == 1


@pytest.mark.parametrize("name", ["split-0-evaluation.pt", "split-0-prior-standard.pt"])
def test_a_damaged_asset_is_named_and_built_again_with_the_same_content(
    spec, assets, finished, tmp_path, name
):
    outcome, _ = finished
    copy = shutil.copytree(assets, tmp_path / "copy")
    flip(copy / name)
    lines = []
    with lines_to(lines.append):
        again = run_unit(spec, assets=copy, folder=tmp_path / "again")
    assert without_times(again) == without_times(outcome)
    assert lines == [next(line for line in lines if line.startswith(str(copy / name)))]


def test_a_target_model_that_is_lost_between_two_stages_is_no_failure_of_the_unit(
    spec, assets, finished
):
    _, folder = finished
    for name in STAGES[1:]:
        (folder / name).unlink()

    def on_stage(stage):
        if stage == "score":
            flip(folder / "train.pt")

    with pytest.raises(OSError, match="no target model of this specification"):
        run_unit(spec, assets=assets, folder=folder, on_stage=on_stage)
    assert read_outcome(spec, folder) is None
    assert run_unit(spec, assets=assets, folder=folder)["unit_id"] == spec.unit_id


def test_a_stage_of_another_specification_is_repeated(spec, assets, finished, tiny_protocol):
    _, folder = finished
    other = tiny_protocol(seed=8).unit_spec("split-0-01", "split-0", "treatment")
    with pytest.raises(ValueError, match="no target model of this specification"):
        load_target(other, load_split(other.block.data, 0), folder)
    assert read_outcome(other, folder) is None
    same = tiny_protocol(robustness={"attacks": "apgd-10", "epsilons": [0.02]})
    same = same.unit_spec("split-0-01", "split-0", "treatment")
    time = (folder / "train.pt").stat().st_mtime_ns
    outcome = run_unit(same, assets=assets, folder=folder)
    assert set(outcome["robust_acc"]) == {"0.02"}
    assert (folder / "train.pt").stat().st_mtime_ns == time


def test_units_differ_and_arms_of_one_unit_start_from_the_same_weights(tiny_protocol):
    protocol = tiny_protocol()
    treated, plain, other = (
        protocol.unit_spec(*names)
        for names in [
            ("split-0-01", "split-0", "treatment"),
            ("split-0-01", "split-0", "control"),
            ("split-0-02", "split-0", "control"),
        ]
    )
    split = load_split(treated.block.data, 0)
    weights = [
        new_target(spec, split, torch.device("cpu")).state_dict()["head.weight"]
        for spec in (treated, plain, other)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert treated.train_hash() != plain.train_hash()


@pytest.mark.parametrize("prior", ["rotated_pca", "warped"])
def test_private_images_do_not_reach_the_prior(tiny_protocol, tmp_path, content, prior):
    """Replace all private images by black ones: no byte of the prior changes."""
    root = shutil.copytree(default_root(), tmp_path / "orl")
    options = {"rotated_pca": {"num_components": 20, "num_faces": 100},
               "warped": {"num_faces": 500, "registration_steps": 4}}[prior]  # fmt: skip
    inversion = {**content["inversions"]["standard"], "prior": {"name": prior, **options}}
    protocol = tiny_protocol(
        data={**content["data"], "root": str(root)}, inversions={"standard": inversion}
    )
    block = protocol.block_spec("split-0")
    split = load_split(block.data, block.split)

    def made(name):
        build_prior(block, "standard", tmp_path / name)
        path = tmp_path / name / "split-0-prior-standard.pt"
        return torch.load(path, weights_only=True)["state"]

    before = made("before")
    for person in split.people:
        for path in (root / f"s{int(person) + 1}").iterdir():
            path.write_bytes(b"P5\n92 112\n255\n" + bytes(92 * 112))
    assert load_split(block.data, block.split).train.images.max() == 0
    assert equal(made("after"), before)
    public = next(p for p in range(40) if p not in split.people.tolist())
    for path in (root / f"s{public + 1}").iterdir():
        path.write_bytes(b"P5\n92 112\n255\n" + bytes(92 * 112))
    assert not equal(made("public changed"), before)


@pytest.fixture
def in_parts(tiny_protocol, content):
    """A unit whose attack has three parts and whose robust accuracy has five."""
    ppa = content["inversions"]["standard"]["ppa"] | {"batch_classes": 2}
    standard = content["inversions"]["standard"] | {"ppa": ppa}
    protocol = tiny_protocol(
        inversions={"standard": standard}, robustness=content["robustness"] | {"chunk": 4}
    )
    return protocol.unit_spec("split-0-01", "split-0", "treatment")


def test_a_unit_interrupted_between_parts_resumes_with_the_next_part(
    in_parts, assets, tmp_path, monkeypatch
):
    whole = run_unit(in_parts, assets=assets, folder=tmp_path / "whole")
    true_invert, parts = stage.invert, []

    def counting(*given, **options):
        if len(parts) == 2:
            parts.append(None)
            raise KeyboardInterrupt
        parts.append(options["part"])
        return true_invert(*given, **options)

    monkeypatch.setattr(stage, "invert", counting)
    folder = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        run_unit(in_parts, assets=assets, folder=folder)
    again = run_unit(in_parts, assets=assets, folder=folder)
    assert parts == [range(2), range(2, 4), None, range(4, 6)]
    assert without_times(again) == without_times(whole)
    assert equal(content(folder), content(tmp_path / "whole"))
    assert sorted(path.name for path in folder.iterdir()) == sorted(STAGES)


def test_the_samples_are_scored_once_for_all_parts(in_parts, assets, tmp_path, monkeypatch):
    true_choice, calls = selection.initial_candidates, []

    def counting(*given):
        calls.append(given)
        return true_choice(*given)

    monkeypatch.setattr(selection, "initial_candidates", counting)
    for number in (1, 2):  # what is shared belongs to one unit
        run_unit(in_parts, assets=assets, folder=tmp_path / str(number))
        assert len(calls) == number * len(in_parts.inversions)


def test_images_are_stored_at_eight_bits(tiny_protocol, assets, tmp_path):
    spec = tiny_protocol().unit_spec("split-0-01", "split-0", "treatment")
    run_unit(spec, assets=assets, folder=tmp_path)
    payload = torch.load(tmp_path / "invert-standard.pt", weights_only=True)
    assert payload["images"].dtype == torch.uint8
    assert len(payload["images"].unique()) > 100


class Naming:
    """Evaluation models that read the class from the first byte of an image."""

    lda = type("Lda", (), {"weight": torch.zeros(1)})

    def __call__(self, images):
        return torch.nn.functional.one_hot((255 * images[:, 0, 0, 0]).round().long(), 3).float()


def test_the_oracle_reports_the_stage_with_the_highest_attack_accuracy():
    classes = torch.tensor([0, 1, 2])
    said = torch.tensor([[0, 0, 0], [1, 1, 2], [0, 1, 2]])  # by stage: 1, 2 and 3 are right
    images = said.T[:, :, None, None, None].to(torch.uint8).expand(3, 3, 1, 2, 2)
    found = {
        "images": images[:, 0], "classes": classes, "confidence": torch.zeros(3),
        "stage_images": images, "stage_confidence": torch.tensor([[0.1, 0.2, 0.3]] * 3),
    }  # fmt: skip
    best = select_reported_stage(found, Naming())
    assert torch.equal(best["images"][:], images[:, 2] / 255)
    assert best["confidence"].tolist() == pytest.approx([0.3] * 3)
    left = {**found, "stage_images": images[:, :0]}
    assert select_reported_stage(left, Naming()) is left


@pytest.mark.parametrize("attack", ["if_gmi", "ppdg"])
def test_a_unit_is_attacked_in_parts_by_each_attack(tiny_protocol, tmp_path, attack):
    small = {"samples": 12, "candidates": 2, "keep": 2, "views": 2, "batch_classes": 4}
    steps = {
        "if_gmi": {"steps": [2, 1, 1], "choice": "oracle"},
        "ppdg": {"steps": 2, "pseudo_private": 1, "pivot_steps": 2, "tuning_steps": 2},
    }
    inversion = {
        "prior": {"name": "warped", "num_faces": 200, "registration_steps": 2},
        attack: {"preset": "quick", **small, **steps[attack]},
    }
    protocol = tiny_protocol(inversions={"standard": inversion})
    spec = protocol.unit_spec("split-0-01", "split-0", "control")
    outcome = run_unit(spec, assets=tmp_path / "assets", folder=tmp_path / "unit")
    assert len(outcome["classes"]) == 6
    assert 0 <= outcome["inversions"]["standard/att_acc_1"] <= 1
