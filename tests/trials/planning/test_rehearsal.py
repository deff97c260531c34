"""``--rehearse``: stages it runs, failures it reports, files it removes."""

import json
import os
import signal
import tempfile
import time

import pytest
import torch

from atat_ray.priors.stylegan2.networks import Shape
from atat_ray.unit import UnitSpec
from atat_ray.unit.rehearsal import attack_once, run_first_job, shrink
from trials.cli import program as cli
from trials.config.load import SHIPPED, SHIPPED_SWEEPS, read_protocol, read_sweep, shipped
from trials.config.sweep import SweepSettings
from trials.planning import rehearsal as rehearsing

TINY = Shape(latent_dim=6, style_dim=8, num_layers=2, channels=(7, 5, 4))  # 16 pixels
STAGES = ["evaluation model", "prior of standard", "train", "invert standard", "score",
          "robustness", "attack"]  # fmt: skip


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Create temporary folders where the test can look for them."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def rehearsed(write_protocol, capsys, temporary):
    """Return a function that rehearses settings; it returns exit code, JSON object and stderr."""

    def call(content, command="run"):
        path = write_protocol(content)
        code = cli.main([command, str(path), "--rehearse", "--json"])
        said = capsys.readouterr()
        assert list(temporary.glob("atat-*")) == []
        assert sorted(p.name for p in temporary.parent.iterdir()) == ["temporary", "tiny.yaml"]
        return code, json.loads(said.out), said.err

    return call


def test_every_kind_of_unit_runs_every_stage_and_leaves_no_file(rehearsed, content):
    code, said, err = rehearsed(content)
    assert (code, said["passed"], said["name"]) == (0, True, "tiny")
    assert [kind["kind"] for kind in said["kinds"]] == [
        "control in split-0",
        "treatment in split-0",
    ]
    assert said["kinds"][0]["alike"] == ["control in split-1"]
    for kind in said["kinds"]:
        assert [step["stage"] for step in kind["steps"]] == STAGES
        assert all(step["seconds"] >= 0 and not step["problem"] for step in kind["steps"])
    assert err.count("\n") == 2 * len(STAGES)
    assert said["notes"] == []


def test_declared_bounds_are_rehearsed_on_one_image(rehearsed, content, tiny_protocol, tmp_path):
    bounds = {"noise_scales": [0.1, 1.0], "layer": "outputs"}
    code, said, _ = rehearsed(content | {"bounds": bounds})
    assert (code, said["passed"]) == (0, True)
    stages = [step["stage"] for step in said["kinds"][0]["steps"]]
    assert stages == [*STAGES[:-1], "bounds", "attack"]
    spec = tiny_protocol(bounds=bounds).unit_spec("split-0-01", "split-0", "control")
    small, _ = shrink(spec, tmp_path, narrow=True)
    assert small.bounds is not None
    assert (small.bounds.images, small.bounds.pixels, small.bounds.power_steps) == (1, 1, 1)


def test_a_terminated_rehearsal_leaves_no_file(content, write_protocol, monkeypatch, temporary):
    def terminate(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr(rehearsing, "rehearse", terminate)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        cli.main(["run", str(write_protocol(content)), "--rehearse"])
    assert caught.value.code == 143
    assert list(temporary.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_failure_is_one_line_with_its_stage_and_other_kinds_continue(rehearsed, content):
    content["arms"]["broken"] = {"defense": "tl_dmi", "frozen": 9}
    code, said, _ = rehearsed(content)
    assert (code, said["passed"]) == (1, False)
    problems = {kind["kind"].split()[0]: kind["problem"] for kind in said["kinds"]}
    assert problems.pop("broken") == (
        "train: ValueError: frozen must be at most the 4 stages of the network, got 9"
    )
    assert set(problems.values()) == {""}


def test_an_invalid_file_of_a_prior_fails(content, write_protocol, capsys, tmp_path):
    path = tmp_path / "ffhq.safetensors"
    path.write_bytes(b"nothing")
    prior = {"name": "stylegan2", "path": str(path), "sha256": 64 * "0"}
    content["inversions"]["standard"]["prior"] = prior
    assert cli.main(["run", str(write_protocol(content)), "--rehearse"]) == 1
    out = capsys.readouterr().out
    assert "prior of standard FAILED: ValueError: the sha256 of" in out
    assert "2 of 2 kinds FAILED" in out


def test_defenses_that_need_a_whole_batch_or_public_images_pass(rehearsed, content):
    """BiDO measures dependence within a batch, TL-DMI learns from public images first."""
    content["arms"] = {
        "control": {"defense": "none"},
        "treatment": {"defense": "bido", "image_weight": 0.05, "label_weight": 0.5},
        "tl_dmi": {"defense": "tl_dmi", "frozen": 1},
    }
    content["blocks"] = {"split-0": {"split": 0}}
    code, said, _ = rehearsed(content)
    assert code == 0, said


def test_missing_files_are_replaced_and_noted(rehearsed, content, monkeypatch):
    """The replaced generators are small, so that the test takes a second."""
    from atat_ray.priors.stylegan2 import prior

    monkeypatch.setattr(prior, "FFHQ", TINY)
    monkeypatch.setattr(prior, "NARROW", TINY)
    content["data"] = {"name": "image_folder", "root": "/nowhere", "num_private": 6,
                       "train_share": 0.9, "size": 32}  # fmt: skip
    content["inversions"]["standard"]["prior"] = {
        "name": "stylegan2", "path": "/nowhere.safetensors", "sha256": 64 * "0"
    }  # fmt: skip
    content["workers"] = 2
    code, said, _ = rehearsed(content)
    assert code == 0, said
    notes = " ".join(said["notes"])
    assert "no folder /nowhere: made data of the shape of image_folder" in notes
    assert "no file /nowhere.safetensors: a generator of FFHQ's shape" in notes
    assert "2 workers of a unit are rehearsed as one process" in notes


def test_arms_that_differ_only_in_the_size_of_a_real_number_are_one_kind(content, tiny_protocol):
    dose = {**content["arms"]["treatment"], "weight": {"levels": [0.0, 0.5, 4.0]}}
    arms = {**content["arms"], "dose": dose, "longer": {**content["arms"]["treatment"], "steps": 3}}
    blocks = {"a": {"split": 0}, "b": {"split": 1, "architecture": "resnet18"}}
    kinds = rehearsing.unit_kinds(tiny_protocol(arms=arms, blocks=blocks))
    names = ["control", "treatment", "dose-weight-0.0", "longer"]
    assert [kind.name for kind in kinds] == [f"{n} in {b}" for b in "ab" for n in names]
    assert kinds[1].alike == ["dose-weight-0.5 in a", "dose-weight-4.0 in a"]


def test_a_sweep_is_rehearsed_at_the_ends_of_its_options(content):
    own = {k: v for k, v in content.items()
           if k not in ("units_per_arm", "arms", "contrasts", "alpha")}  # fmt: skip
    arm = {"defense": "anti_adversarial", "step_size": 0.005, "random_start": True, "weight": 1.0}
    options = {"steps": {"low": 1, "high": 4}, "epsilon": {"low": 0.001, "high": 0.01}}
    search = {"method": "pareto", "points": 30, "options": options}
    sweep = SweepSettings.model_validate(
        {**own, "blocks": {"split-0": {"split": 0}}, "arm": arm, "search": search}
    )
    kinds = rehearsing.unit_kinds(sweep)
    assert [kind.name for kind in kinds] == ["steps=1 epsilon=0.001", "steps=4 epsilon=0.001"]
    assert kinds[0].alike == ["steps=1 epsilon=0.01"]


@pytest.mark.parametrize(("size", "batch", "candidates"), [(32, 14, 3), (80, 4, 1)])
def test_a_rehearsal_changes_only_budgets(tiny_protocol, tmp_path, size, batch, candidates):
    data = {"name": "orl_faces", "num_private": 6, "num_train": 7, "size": size}
    spec = tiny_protocol(workers=2, data=data).unit_spec("rehearsal", "split-0", "treatment")
    small, notes = shrink(spec, tmp_path, narrow=True)
    same = ("unit_id", "architecture", "defense", "seed_name")
    assert {name: getattr(small, name) for name in same} == {
        name: getattr(spec, name) for name in same
    }
    assert (small.training.epochs, small.training.batch_size, small.workers) == (1, batch, 1)
    assert small.inversions["standard"].candidates == candidates
    assert any("no GPU: batches of 4 images" in note for note in notes) == (size > 64)
    assert small.training.augmentation == spec.training.augmentation
    assert small.inversions["standard"].betas == spec.inversions["standard"].betas
    assert isinstance(small, UnitSpec)


def test_a_rehearsal_runs_only_the_first_job_of_a_stage():
    assert run_first_job([lambda: 1, lambda: pytest.fail("done")]) == [1]


def test_the_attacked_image_is_labelled_by_the_model(monkeypatch, tiny_protocol, tmp_path):
    """AutoAttack skips misclassified images, and the untrained network misclassifies most."""
    from atat_ray.unit import rehearsal

    seen = []
    monkeypatch.setattr(rehearsal, "load_target", lambda *call: lambda x: torch.eye(6)[[3]])
    monkeypatch.setattr(
        rehearsal, "run_attack", lambda m, x, y, attack, **o: seen.append((attack, y.tolist(), o))
    )
    robustness = {"attacks": "standard", "epsilons": [0.01]}
    spec = tiny_protocol(robustness=robustness).unit_spec("rehearsal", "split-0", "control")
    attack_once(spec, tmp_path)
    assert [(attack, label) for attack, label, _ in seen] == [
        (name, [3]) for name in ("apgd-ce", "apgd-t", "fab-t", "square")
    ]
    assert {(o["settings"].iterations, o["settings"].queries) for *_, o in seen} == {(1, 2)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "name"),
    [("run", name) for name in sorted(shipped(SHIPPED))]
    + [("sweep", name) for name in sorted(shipped(SHIPPED_SWEEPS))],
)
def test_shipped_settings_are_rehearsed_in_ten_minutes(command, name, temporary, capsys):
    settings = read_protocol(name) if command == "run" else read_sweep(name)
    before, start = torch.get_num_threads(), time.monotonic()
    torch.set_num_threads(os.cpu_count() or 1)  # as the command does
    try:
        code = cli.main([command, name, "--rehearse"])
    finally:
        torch.set_num_threads(before)
    said = capsys.readouterr().out
    assert code == 0, said
    assert time.monotonic() - start < 600
    assert list(temporary.glob("atat-*")) == []
    assert "every kind of unit runs" in said
    assert settings.name == name
