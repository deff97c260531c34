"""What a campaign reads is identified by content, and compared wherever it is used."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import trees

from analysis import schema
from atat_ray.unit.block_assets import build_block_assets, contents, evaluation_path
from atat_ray.unit.inputs import manifests, unit_sources
from atat_ray.utils.json_files import digest_of, read_signed, write_signed
from atat_ray.utils.stage_files import load_stage, save_stage
from trials.campaign.campaign import Campaign
from trials.campaign.inputs import (
    ChangedInputs,
    check_inputs,
    commitments,
    register_assets,
    register_inputs,
    restore_inputs,
    settings_sources,
)
from trials.campaign.notes import write_note
from trials.campaign.verify import verify
from trials.cli.program import main
from trials.config.protocol import Protocol
from trials.execution.recorder import Recorder
from trials.execution.resources import Resources
from trials.execution.run import assets_of
from trials.execution.tasks import AssetTask, UnitTask

SMALL = {"epochs": 1, "batch_size": 4, "learning_rate": 0.001, "weight_decay": 0.0}
ONE = Resources(amounts={"CPU": 1.0}, processes=1)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setenv("ATAT_CACHE", str(tmp_path / "cache"))
    names = ("ann", "bob", "cy", "dee", "eve", "flo")
    return trees.image_folder(tmp_path / "photos", classes=names, each=4)


@pytest.fixture
def campaign(photos, tmp_path, content, empty_database):
    """A campaign on files, registered, with an empty record."""
    content["data"] = {
        "name": "image_folder", "num_private": 4, "train_share": 0.5, "size": 32,
        "root": str(photos),
    }  # fmt: skip
    content["training"] = content["evaluation"]["training"] = SMALL
    made = Campaign.create_or_resume(Protocol.model_validate(content), tmp_path / "run", None)
    shutil.copy(empty_database, made.folder / "mlflow.db")
    register_inputs(made, settings_sources(made.settings))
    return made


def swap(photos):
    """Swap two classes."""
    for old, new in [("ann", "x"), ("bob", "ann"), ("x", "bob")]:
        (photos / old).rename(photos / new)


def problems(campaign):
    return {check.what: check.problems for check in verify(campaign) if check.problems}


def record_all(campaign):
    recorder = Recorder(campaign, print)
    recorder.open_or_postpone()
    recorder.catch_up()
    recorder.close()
    return recorder


def task_of(campaign):
    row = campaign.table[0]
    spec = campaign.spec(row)
    return UnitTask(
        name=row.unit_id,
        layout=campaign.layout(),
        resources=ONE,
        spec=spec,
        after=assets_of(spec.block.name),
    )


def test_inputs_that_are_the_same_are_accepted(campaign):
    before = campaign.inputs_file.read_bytes()
    register_inputs(campaign, settings_sources(campaign.settings))
    check_inputs(campaign, unit_sources(campaign.spec(campaign.table[0])))
    assert campaign.inputs_file.read_bytes() == before


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("swap", "8 changed: ann/0.jpg, ann/1.jpg, ann/2.jpg and 5 more"),
        ("remove", "1 missing: ann/0.jpg"),
        ("add", "1 new: ann/9.jpg"),
        ("change", "1 changed: ann/0.jpg"),
    ],
)
def test_inputs_that_differ_are_refused_with_the_files_that_differ(campaign, photos, harm, message):
    if harm == "swap":
        swap(photos)
    elif harm == "remove":
        (photos / "ann" / "0.jpg").unlink()
    elif harm == "add":
        shutil.copy(photos / "ann" / "0.jpg", photos / "ann" / "9.jpg")
    else:
        (photos / "ann" / "0.jpg").write_bytes(trees.picture(77))
    with pytest.raises(ChangedInputs) as caught:
        register_inputs(campaign, settings_sources(campaign.settings))
    assert f"data image_folder in {photos} is not what was registered" in str(caught.value)
    assert message in str(caught.value)
    assert "put the registered files back, or start again in another folder" in str(caught.value)
    with pytest.raises(ChangedInputs):
        check_inputs(campaign, unit_sources(campaign.spec(campaign.table[0])))


def test_resuming_on_other_data_is_refused_in_one_line(campaign, photos, capsys):
    campaign.note_committed()
    (photos / "ann" / "0.jpg").write_bytes(trees.picture(77))
    assert main(["resume", "tiny", "--out", str(campaign.folder)]) == 2
    said = capsys.readouterr().err
    assert "1 changed: ann/0.jpg" in said
    assert len(said.splitlines()) == 1


def test_a_single_model_is_not_attacked_on_other_data(campaign, photos, write_protocol, capsys):
    protocol = write_protocol(campaign.settings.canonical())
    assert main(["train", "model", "--protocol", str(protocol)]) == 0
    (photos / "ann" / "0.jpg").write_bytes(trees.picture(77))
    for command in (["invert", "model"], ["evaluate", "model"]):
        capsys.readouterr()
        assert main(command) == 2
        assert "1 changed: ann/0.jpg" in capsys.readouterr().err


def test_a_lost_list_of_inputs_is_made_again_only_from_the_registered_files(campaign, photos):
    campaign.note_committed()
    before = campaign.inputs_file.read_bytes()
    for harm in (campaign.inputs_file.unlink, lambda: campaign.inputs_file.write_text("{")):
        harm()
        register_inputs(campaign, settings_sources(campaign.settings))
        assert campaign.inputs_file.read_bytes() == before
    campaign.inputs_file.unlink()
    (photos / "ann" / "0.jpg").write_bytes(trees.picture(77))
    with pytest.raises(ChangedInputs, match="is missing or damaged, and the data are not those"):
        register_inputs(campaign, settings_sources(campaign.settings))
    assert not campaign.inputs_file.exists()


def test_a_changed_list_of_inputs_breaks_the_commitment(campaign):
    campaign.note_committed()
    content = read_signed(campaign.inputs_file)
    next(iter(content.values()))["ann/0.jpg"] = "0" * 64
    write_signed(campaign.inputs_file, content)
    with pytest.raises(ValueError, match="inputs_sha256 is .*, but committed was"):
        campaign.check()


def test_data_that_change_before_a_stage_stop_the_run_and_are_no_failure(campaign, photos):
    campaign.note_committed()
    swap(photos)
    with pytest.raises(OSError, match="is not what was registered"):
        task_of(campaign).work()
    assert campaign.stop_file.exists()
    assert campaign.status(campaign.table[0]) == schema.PENDING
    campaign.stop_file.unlink()
    block = campaign.blocks()[0]
    with pytest.raises(ValueError, match="is not what was registered"):
        AssetTask(name="assets", layout=campaign.layout(), resources=ONE, block=block).work()
    assert not campaign.assets.exists()


def test_data_that_vanish_during_a_stage_are_no_failure_of_the_unit(campaign, photos, monkeypatch):
    def train(*words):
        photos.rename(photos.with_name("away"))
        raise ValueError(f"there is no folder {photos}")

    campaign.note_committed()
    monkeypatch.setattr("atat_ray.unit.run.train_stage", train)
    row = campaign.table[0]
    for _ in range(2):
        with pytest.raises(OSError, match="there is no folder"):
            task_of(campaign).work()
        assert campaign.status(row) == schema.PENDING
        campaign.stop_file.unlink()


def test_a_failure_on_registered_data_is_a_failure_of_the_unit(campaign, monkeypatch):
    campaign.note_committed()
    monkeypatch.setattr("atat_ray.unit.run.train_stage", None)
    task_of(campaign).work()
    assert campaign.status(campaign.table[0]) == schema.FAILED
    assert not campaign.stop_file.exists()


def test_a_unit_names_the_content_of_what_it_was_measured_with(campaign):
    campaign.note_committed()
    row = campaign.table[0]
    write_note(campaign.unit_folder(row.unit_id), "start", {"order": 1})  # which the driver writes
    task_of(campaign).work()
    outcome = campaign.outcome(row)
    assert outcome["contents"] == contents(campaign.spec(row).block, campaign.assets)
    assert len(outcome["contents"]["data"]) == len(outcome["contents"]["evaluation"]) == 64
    recorder = record_all(campaign)
    tags = recorder.record.units()[row.unit_id].data.tags
    assert tags["data_sha256"] == outcome["contents"]["data"]
    assert tags["evaluation_sha256"] == outcome["contents"]["evaluation"]
    parent, _ = recorder.record.registered()
    assert outcome["contents"]["data"] in json.loads(parent[schema.INPUTS]).values()
    assert parent["inputs_sha256"] == digest_of(read_signed(campaign.inputs_file))
    assert problems(campaign) == {}


def test_deleted_or_damaged_inputs_are_written_again_if_the_data_agree(campaign, photos):
    sources, said = settings_sources(campaign.settings), []
    campaign.note_committed()
    before = campaign.inputs_file.read_bytes()
    for damage in (Path.unlink, lambda path: path.write_bytes(b"{")):
        damage(campaign.inputs_file)
        restore_inputs(campaign, sources, said.append)
        assert campaign.inputs_file.read_bytes() == before
    restore_inputs(campaign, sources, said.append)
    assert [line.endswith("it is written again") for line in said] == [True, True]
    campaign.inputs_file.unlink()
    (photos / "ann" / "0.jpg").write_bytes(trees.picture(77))
    restore_inputs(campaign, sources, said.append)
    shutil.rmtree(photos)
    restore_inputs(campaign, sources, said.append)
    assert not campaign.inputs_file.exists()
    assert [line.count("is not written again") for line in said[2:]] == [1, 1]


def other_models(campaign):
    """Replace the evaluation models of the first block by others of the same specification."""
    block = campaign.blocks()[0]
    path = evaluation_path(block, campaign.assets)
    payload = load_stage(path, block.evaluation_hash())
    payload["state"] = {n: torch.zeros_like(value) for n, value in payload["state"].items()}
    del payload["specification"]
    save_stage(path, block.evaluation_hash(), payload)
    return block


def test_other_assets_are_refused_once_a_unit_was_measured(campaign, finish):
    block = campaign.blocks()[0]
    register_assets(campaign, block.name, build_block_assets(block, campaign.assets))
    other_models(campaign)
    assets = build_block_assets(block, campaign.assets)
    register_assets(campaign, block.name, assets)
    finish(campaign, campaign.table[0])
    register_assets(campaign, block.name, assets)
    changed = [{**assets[0], "content_sha256": "0" * 64}, *assets[1:]]
    with pytest.raises(ChangedInputs, match="evaluation models of block split-0 are not those"):
        register_assets(campaign, block.name, changed)


def test_verify_names_changed_inputs_assets_and_files(campaign, photos, finish):
    block = campaign.blocks()[0]
    register_assets(campaign, block.name, build_block_assets(block, campaign.assets))
    for row in campaign.table:
        finish(campaign, row)
    record_all(campaign)
    assert problems(campaign) == {}
    row = campaign.table[1]
    for name in ("outcome.json", "score.pt"):
        path = campaign.unit_folder(row.unit_id) / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    other_models(campaign)
    (photos / "ann" / "0.jpg").write_bytes(trees.picture(77))
    found = [line for lines in problems(campaign).values() for line in lines]
    for part in (
        "score.pt is damaged",
        "outcome.json",
        "1 changed: ann/0.jpg",
        "evaluation models",
    ):
        assert [part in line for line in found].count(True) == 1, (part, found)
    shutil.rmtree(photos)
    (what,) = [check.what for check in verify(campaign) if "not on this machine" in check.what]
    assert f"data image_folder in {photos}" in what


def test_generators_and_weights_are_inputs_too(content, tmp_path, monkeypatch):
    monkeypatch.setenv("ATAT_CACHE", str(tmp_path / "cache"))
    weights, generator = tmp_path / "resnet18.pth", tmp_path / "g.safetensors"
    weights.write_bytes(b"weights")
    generator.write_bytes(b"generator")
    monkeypatch.setattr("atat_ray.unit.inputs.find_weights", lambda architecture: weights)
    content["inversions"]["standard"]["prior"] = {
        "name": "stylegan2", "path": str(generator), "sha256": "1" * 64,
    }  # fmt: skip
    content["training"] = {**content["training"], "weights": "imagenet"}
    content["architecture"] = "resnet18"
    spec = Protocol.model_validate(content).unit_spec("split-0-01", "split-0", "control")
    found = manifests(unit_sources(spec))
    assert list(found) == [
        "data orl_faces", "generator of standard", "ImageNet weights of resnet18"
    ]  # fmt: skip
    for name, file in [("generator of standard", generator), (list(found)[-1], weights)]:
        file.write_bytes(file.read_bytes()[::-1])
        again = manifests(unit_sources(spec))
        assert again[name] != found[name]


def test_the_draw_does_not_depend_on_the_content_of_the_inputs(campaign, photos, tmp_path):
    swap(photos)
    other = Campaign.create_or_resume(campaign.settings, tmp_path / "other", None)
    register_inputs(other, settings_sources(other.settings))
    assert other.table == campaign.table
    assert commitments(other)["inputs_sha256"] != commitments(campaign)["inputs_sha256"]
    assert other.hashes() == campaign.hashes()
