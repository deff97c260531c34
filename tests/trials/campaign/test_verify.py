"""``atat verify``: each kind of tampering is reported; an untouched campaign agrees."""

import json
import random
import shutil
from collections import OrderedDict
from pathlib import Path

import pytest
from damage import WAYS
from PIL import Image

from analysis import schema
from atat_ray.unit.computed_on import note_process
from atat_ray.utils.json_files import read_signed, write_signed
from trials import allocation
from trials.campaign.campaign import Campaign
from trials.campaign.inputs import register_inputs
from trials.campaign.notes import write_note
from trials.campaign.verify import verify
from trials.campaign.verify_files import missing_files
from trials.cli.program import main
from trials.execution.recorder import Recorder
from trials.tracking.record import MlflowRecord


def record_all(campaign):
    """Write every unit that has ended to the record, as a run does."""
    recorder = Recorder(campaign, print)
    recorder.open_or_postpone()
    recorder.catch_up()
    recorder.close()


@pytest.fixture(scope="module")
def original(tmp_path_factory, empty_database, finish):
    """Record a whole campaign once, to be copied."""
    from trials.config.load import read_protocol

    protocol = read_protocol("orl-rct").model_copy(update={"units_per_arm": 1})
    campaign = Campaign.create_or_resume(
        protocol, tmp_path_factory.mktemp("original") / "rct", None
    )
    shutil.copy(empty_database, campaign.folder / "mlflow.db")
    register_inputs(campaign, {})
    for row in campaign.table:
        finish(campaign, row)
    record_all(campaign)
    return campaign.folder


@pytest.fixture
def folder(original, tmp_path, monkeypatch):
    """Copy the campaign, and clear MLflow's cache of the places of artifacts."""
    from mlflow.tracking._tracking_service import utils

    monkeypatch.setattr(utils, "_artifact_repos_cache", OrderedDict())
    return shutil.copytree(original, tmp_path / "rct")


def problems(folder):
    """Return the problems of all checks that found any, by the statement that was checked."""
    return {check.what: check.problems for check in verify(Campaign.load(folder)) if check.problems}


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def forge(path, change):
    """Change a signed file, and sign it again."""
    content = read_signed(path)
    change(content)
    write_signed(path, content)


def runs_of(folder):
    """Return MLflow's client for a campaign's record, and the run id of each unit."""
    from mlflow import MlflowClient

    # Attaching corrects the artifact paths of the copied record.
    assert MlflowRecord(Campaign.load(folder).tracking_uri, "orl-rct").attach()
    client = MlflowClient(Campaign.load(folder).tracking_uri)
    experiment = client.get_experiment_by_name("orl-rct").experiment_id
    runs = client.search_runs([experiment])
    return client, {run.data.tags.get("unit_id", ""): run.info.run_id for run in runs}


def test_an_untouched_campaign_agrees(folder):
    compared = [check.what for check in verify(Campaign.load(folder))]
    assert problems(folder) == {}
    assert any("(6 units)" in what for what in compared)
    assert any("6 recorded units" in what for what in compared)


def test_every_deleted_file_of_a_finished_unit_is_named_and_nothing_else_differs(folder):
    campaign = Campaign.load(folder)
    unit = campaign.unit_folder(campaign.table[1].unit_id)
    deleted = [*unit.glob("*.pt"), unit / "start.json", unit / "place.json"]
    assert len(deleted) == 4 + len(campaign.settings.inversions) + 1
    deleted += [*campaign.assets.glob("*.pt"), *campaign.assets.glob("*.json")]
    deleted += [folder / name for name in ("inputs.json", "committed.json", "allocation.csv")]
    for path in deleted:
        path.unlink()
    (lines,) = problems(folder).values()
    assert sorted(line.partition(" is missing: ")[0] for line in lines) == sorted(map(str, deleted))
    assert not (folder / "allocation.csv").exists()  # verify writes nothing


def test_files_of_units_that_have_not_finished_are_not_missed(tiny_protocol, tmp_path):
    campaign = Campaign.create_or_resume(tiny_protocol(), tmp_path / "new", None)
    assert missing_files(campaign, campaign.table) == []


@pytest.mark.parametrize("way", ["a bit flipped", "cut", "deleted"])
def test_an_altered_picture_in_the_record_is_named(folder, way):
    client, runs = runs_of(folder)
    row = Campaign.load(folder).table[2]
    place = Path(client.get_run(runs[row.unit_id]).info.artifact_uri.removeprefix("file://"))
    path = sorted(place.rglob("*.png"))[0]
    WAYS[way](path, random.Random(1))
    ((line,),) = problems(folder).values()
    assert line.startswith(f"unit {row.unit_id}: pictures/{path.name} ")


def test_a_picture_that_was_compressed_by_another_version_agrees(folder):
    for path in (folder / "artifacts").rglob("*.png"):
        before = path.read_bytes()
        Image.open(path).save(path, compress_level=1)
        assert path.read_bytes() != before
    assert problems(folder) == {}


@pytest.mark.parametrize("name", ["start_order", "node", "device", "times_lost", "reason"])
def test_a_changed_tag_of_a_note_in_the_record_is_named(folder, name):
    client, runs = runs_of(folder)
    row = Campaign.load(folder).table[2]
    given = client.get_run(runs[row.unit_id]).data.tags[name]
    client.set_tag(runs[row.unit_id], name, "7")
    assert list(problems(folder).values()) == [
        [f"unit {row.unit_id}: {name} is recorded as 7, its folder has {given or 'nothing'}"]
    ]


def test_another_duration_agrees(folder):
    unit = Campaign.load(folder).table[0].unit_id
    path = folder / "units" / unit / "outcome.json"
    forge(path, lambda outcome: outcome["seconds"].update(train=1234.5))
    assert problems(folder) == {}


def test_a_unit_that_was_moved_to_another_arm_is_named(folder):
    path = folder / "allocation.csv"
    first = Campaign.load(folder).table[0]
    other = "treatment" if first.arm == "control" else "control"
    path.write_text(path.read_text().replace(f",{first.arm}\n", f",{other}\n", 1))
    found = problems(folder)
    (line,) = next(value for what, value in found.items() if what.startswith("allocation.csv"))
    assert line == (
        f"unit split-10-01: recorded {other} in split-10, drawn {first.arm} in split-10"
    )
    (line,) = next(value for what, value in found.items() if "hashes" in what)
    assert line.startswith("allocation_sha256 is ")


def test_a_unit_that_was_removed_from_the_allocation_is_named(folder):
    path = folder / "allocation.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    found = problems(folder)
    assert ["unit split-11-03 is missing"] in found.values()


def test_another_protocol_is_found(folder):
    edit(folder / "campaign.json", lambda content: content["settings"].update(alpha=0.2))
    found = next(value for what, value in problems(folder).items() if "hashes" in what)
    assert any(line.startswith("protocol_sha256 is ") for line in found)


def test_another_nonce_is_found(folder):
    edit(folder / "campaign.json", lambda content: content.update(nonce="0"))
    found = problems(folder)
    hashes = next(value for what, value in found.items() if "hashes" in what)
    assert any(line.startswith("nonce_sha256 is ") for line in hashes)
    assert any(what.startswith("allocation.csv") for what in found)


def test_a_nonce_that_is_not_the_seed_is_found(tiny_protocol, tmp_path, empty_database, finish):
    """A nonce that was chosen for its allocation contradicts ``nonce: seed`` and nothing else."""
    campaign = Campaign.create_or_resume(tiny_protocol(nonce="seed"), tmp_path / "tiny", None)
    edit(campaign.folder / "campaign.json", lambda content: content.update(nonce="12345"))
    (campaign.folder / "allocation.csv").unlink()
    shutil.copy(empty_database, campaign.folder / "mlflow.db")
    register_inputs(campaign, {})
    record_all(Campaign.load(campaign.folder))
    found = [line for value in problems(campaign.folder).values() for line in value]
    assert any("nonce" in line and "seed" in line for line in found)


@pytest.mark.parametrize("name", ["arm", "block"])
def test_a_changed_arm_or_block_in_the_record_is_named(folder, name):
    client, runs = runs_of(folder)
    row = Campaign.load(folder).table[2]
    client.set_tag(runs[row.unit_id], name, "elsewhere")
    drawn = {"arm": row.arm, "block": row.stratum}[name]
    assert list(problems(folder).values()) == [
        [f"unit {row.unit_id}: {name} is recorded as elsewhere, drawn as {drawn}"]
    ]


def test_a_finished_unit_that_is_recorded_as_failed_is_named(folder):
    """The analysis would leave it out of the comparison."""
    client, runs = runs_of(folder)
    row = Campaign.load(folder).table[2]
    client.set_tag(runs[row.unit_id], "status", schema.FAILED)
    assert list(problems(folder).values()) == [
        [f"unit {row.unit_id}: status is recorded as failed, its folder has finished"]
    ]


def test_a_failed_unit_that_is_recorded_as_finished_is_named(folder):
    """The analysis would compare outcomes that the unit does not have."""
    row = Campaign.load(folder).table[2]
    (Campaign.load(folder).unit_folder(row.unit_id) / "outcome.json").unlink()
    write_note(
        Campaign.load(folder).unit_folder(row.unit_id), schema.FAILED, {"reason": "ValueError: no"}
    )
    assert list(problems(folder).values()) == [
        [f"unit {row.unit_id}: status is recorded as finished, its folder has failed"]
    ]


def test_a_recorded_unit_that_has_not_ended_is_named(folder):
    """Its recorded run cannot come from the unit."""
    row = Campaign.load(folder).table[2]
    shutil.rmtree(Campaign.load(folder).unit_folder(row.unit_id))
    assert list(problems(folder).values()) == [
        [f"unit {row.unit_id}: status is recorded as finished, its folder has pending"]
    ]


def test_a_unit_that_runs_again_after_it_failed_agrees(folder):
    """Its failure stays recorded until it ends; a pending unit that never failed is named."""
    client, runs = runs_of(folder)
    campaign, row = Campaign.load(folder), Campaign.load(folder).table[2]
    for name, value in {"status": schema.FAILED, "reason": "ValueError: no"}.items():
        client.set_tag(runs[row.unit_id], name, value)
    (campaign.unit_folder(row.unit_id) / "outcome.json").unlink()
    assert list(problems(folder).values()) == [
        [f"unit {row.unit_id}: status is recorded as failed, its folder has pending"]
    ]
    write_note(campaign.unit_folder(row.unit_id), schema.FAILED, {"reason": "ValueError: no"})
    assert problems(folder) == {}
    campaign.retry_failures()
    assert problems(folder) == {}


def test_an_ended_unit_that_is_not_recorded_yet_is_named(folder):
    client, runs = runs_of(folder)
    finished, failed = Campaign.load(folder).table[1:3]
    (Campaign.load(folder).unit_folder(failed.unit_id) / "outcome.json").unlink()
    write_note(Campaign.load(folder).unit_folder(failed.unit_id), schema.FAILED, {"reason": "no"})
    client.update_run(runs[finished.unit_id], status="RUNNING")  # killed during writing
    client.delete_run(runs[failed.unit_id])
    assert list(problems(folder).values()) == [
        [
            f"unit {finished.unit_id} is finished in its folder and not recorded yet",
            f"unit {failed.unit_id} is failed in its folder and not recorded yet",
        ]
    ]


def test_a_unit_with_two_runs_is_named_with_both_run_ids(folder):
    client, runs = runs_of(folder)
    row = Campaign.load(folder).table[2]
    first = client.get_run(runs[row.unit_id])
    second = client.create_run(first.info.experiment_id, tags=first.data.tags).info.run_id
    ((line,),) = problems(folder).values()
    assert line.startswith(f"unit {row.unit_id} has 2 runs in the record: ")
    assert first.info.run_id in line
    assert second in line


def test_a_recorded_outcome_that_the_folder_lacks_is_named(folder):
    client, runs = runs_of(folder)
    row = Campaign.load(folder).table[2]
    client.log_metric(runs[row.unit_id], "robust_acc/0.5", 0.75)
    assert list(problems(folder).values()) == [
        [f"unit {row.unit_id}: robust_acc/0.5 is recorded as 0.75, its folder has nothing"]
    ]


def test_nan_and_infinity_agree_with_what_mlflow_stores_for_them(folder):
    client, runs = runs_of(folder)
    row = Campaign.load(folder).table[2]
    path = Campaign.load(folder).unit_folder(row.unit_id) / "outcome.json"
    for step, value in enumerate([float("nan"), float("inf")], start=1):
        forge(path, lambda outcome, value=value: outcome.update(clean_acc=value))
        client.log_metric(runs[row.unit_id], "clean_acc", value, step=step)
        assert problems(folder) == {}
    client.log_metric(runs[row.unit_id], "clean_acc", 0.5, step=3)
    assert list(problems(folder).values()) == [
        [f"unit {row.unit_id}: clean_acc is recorded as 0.5, its folder has inf"]
    ]


@pytest.mark.parametrize("there", [True, False])
def test_a_changed_or_missing_class_table_in_the_record_is_named(folder, there):
    client, runs = runs_of(folder)
    row = Campaign.load(folder).table[2]
    place = Path(client.get_run(runs[row.unit_id]).info.artifact_uri.removeprefix("file://"))
    path = place / schema.CLASSES_FILE
    given = path.read_text().splitlines()
    if there:
        changed = given[3].rpartition(",")[0] + ",2"
        path.write_text("\n".join([*given[:3], changed, *given[4:]]) + "\n")
        difference = f"line 4 of classes.csv is recorded as {changed}; its folder has {given[3]}"
    else:
        path.unlink()
        difference = f"line 1 of classes.csv is recorded as nothing; its folder has {given[0]}"
    assert list(problems(folder).values()) == [[f"unit {row.unit_id}: {difference}"]]


def test_a_changed_outcome_in_the_record_is_named(folder):
    client, runs = runs_of(folder)
    row = Campaign.load(folder).table[2]
    given = client.get_run(runs[row.unit_id]).data.metrics["clean_acc"]
    client.log_metric(runs[row.unit_id], "clean_acc", given / 2, step=1)
    assert list(problems(folder).values()) == [
        [f"unit {row.unit_id}: clean_acc is recorded as {given / 2}, its folder has {given}"]
    ]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", '{"specification": %s}', "[" * 100_000, '{"inversions": "none"}', "\0"],
    ids=range(7),
)
def test_an_outcome_without_its_keys_is_named_and_counts_as_missing(folder, text):
    campaign = Campaign.load(folder)
    row = campaign.table[1]
    path = campaign.unit_folder(row.unit_id) / "outcome.json"
    path.write_text(text % json.dumps(campaign.spec(row).outcome_hash()) if "%" in text else text)
    ((line,),) = problems(folder).values()
    assert line.startswith(f"{path} ")
    assert len(line.splitlines()) == 1
    assert campaign.status(row) == schema.PENDING


def test_a_changed_outcome_in_the_folder_is_named(folder):
    row = Campaign.load(folder).table[1]
    path = Campaign.load(folder).unit_folder(row.unit_id) / "outcome.json"
    forge(path, lambda outcome: outcome["inversions"].update({"standard/att_acc_1": 0.123}))
    ((line,),) = problems(folder).values()
    assert line.startswith(f"unit {row.unit_id}: standard/att_acc_1 is recorded as ")
    assert line.endswith("its folder has 0.123")


@pytest.mark.parametrize("name", ["protocol_sha256", "nonce_sha256", "allocation_sha256"])
def test_a_changed_commitment_in_the_folder_is_named(folder, name):
    edit(folder / "committed.json", lambda content: content.update({name: "0" * 64}))
    ((line,),) = problems(folder).values()
    assert line.startswith(f"{name} is ")
    assert line.endswith(f"committed was {'0' * 64}")
    with pytest.raises(ValueError, match=f"not what was committed: {name}"):
        Campaign.load(folder).check()


def test_an_unreadable_commitment_is_reported(folder):
    (folder / "committed.json").write_text("[1")
    ((line,),) = problems(folder).values()
    assert line.startswith("committed.json cannot be read")


def test_a_recorded_unit_that_was_not_drawn_is_named(folder):
    client, runs = runs_of(folder)
    row = Campaign.load(folder).table[2]
    client.set_tag(runs[row.unit_id], "unit_id", "undrawn")
    found = [line for value in problems(folder).values() for line in value]
    assert "unit undrawn is recorded but was not drawn" in found


@pytest.mark.parametrize("name", ["protocol_sha256", "nonce_sha256", "allocation_sha256"])
def test_a_changed_hash_in_the_record_is_named(folder, name):
    client, runs = runs_of(folder)
    client.set_tag(runs[""], name, "0" * 64)
    ((line,),) = problems(folder).values()
    assert line.startswith(f"{name} is ")
    assert line.endswith(f"but the record was committed to {'0' * 64}")


def test_a_changed_allocation_in_the_record_is_named(folder):
    client, runs = runs_of(folder)
    first, *others = Campaign.load(folder).table
    moved = allocation.Assignment(unit_id=first.unit_id, stratum=first.stratum, arm="elsewhere")
    client.log_text(runs[""], allocation.to_csv([moved, *others]), schema.ALLOCATION_FILE)
    assert list(problems(folder).values()) == [
        [f"unit {first.unit_id}: recorded elsewhere in split-10, drawn {first.arm} in split-10"]
    ]


def test_an_outcome_of_another_arm_is_named(folder, finish):
    campaign = Campaign.load(folder)
    row = campaign.table[3]
    other = next(arm for arm in campaign.settings.arms if arm != row.arm)
    finish(campaign, allocation.Assignment(unit_id=row.unit_id, stratum=row.stratum, arm=other))
    ((line,),) = problems(folder).values()
    assert line == (
        f"unit {row.unit_id} has an outcome that is not of arm {row.arm} under this protocol"
    )


def test_a_unit_that_was_removed_from_the_record_is_named(folder):
    client, runs = runs_of(folder)
    row = Campaign.load(folder).table[1]
    client.delete_run(runs[row.unit_id])
    found = [line for value in problems(folder).values() for line in value]
    assert any(row.unit_id in line for line in found)


def test_a_missing_record_is_reported(folder):
    (folder / "mlflow.db").unlink()
    found = problems(folder)
    assert found == {"the record": [f"there is none at {Campaign.load(folder).tracking_uri}"]}


@pytest.mark.parametrize("command", [["verify"], ["verify", "--json"]])
def test_the_exit_code_is_0_if_all_agrees_and_1_otherwise(folder, capsys, command):
    assert main([*command, "orl-rct", "--out", str(folder)]) == 0
    assert "DIFFERS" not in capsys.readouterr().out
    path = folder / "allocation.csv"
    path.write_text(path.read_text().replace("split-10-02", "split-10-09"))
    assert main([*command, "orl-rct", "--out", str(folder)]) == 1
    said = capsys.readouterr().out
    assert "unit split-10-02 is missing" in said
    if "--json" in command:
        assert json.loads(said)["agrees"] is False
    else:
        assert "DIFFERS allocation.csv is what protocol and nonce draw" in said


def computed_on(instruction_set, unit_ids, campaign):
    """Leave in the folders of units what their processes leave."""
    here = {"processor": "p", "threads": "1", "torch": "2", "gpu": "none"}
    for unit_id in unit_ids:
        folder = campaign.unit_folder(unit_id)
        note_process(folder, {**here, "instruction_set": instruction_set})


@pytest.fixture
def mixed(tmp_path, empty_database, finish, tiny_protocol):
    """Record a campaign whose last two units were computed with another instruction set."""
    campaign = Campaign.create_or_resume(tiny_protocol(units_per_arm=1), tmp_path / "mixed", None)
    shutil.copy(empty_database, campaign.folder / "mlflow.db")
    register_inputs(campaign, {})
    unit_ids = [row.unit_id for row in campaign.table]
    computed_on("AVX512", unit_ids[:-1], campaign)
    computed_on("AVX2", unit_ids[-2:], campaign)
    for row in campaign.table:
        finish(campaign, row)
    record_all(campaign)
    return campaign


def test_units_of_different_processors_agree_and_are_named(mixed, capsys):
    total = len(mixed.table)
    assert main(["verify", "tiny", "--out", str(mixed.folder)]) == 0
    line = (
        "note: units were computed on different instruction sets: AVX2 (2 units), "
        f"AVX512 ({total - 1} units)"
    )
    printed = " ".join(capsys.readouterr().out.split())
    assert line in printed
    assert printed.count("note:") == 1


def test_units_of_one_processor_have_no_note(folder):
    assert not [check.notes for check in verify(Campaign.load(folder)) if check.notes]


def test_a_unit_that_is_recorded_with_another_processor_is_named(mixed):
    last = mixed.table[-1].unit_id
    computed_on("SVE256", [last], mixed)
    (found,) = problems(mixed.folder).values()
    assert found == [
        f"unit {last}: instruction_set is recorded as AVX2, its folder has AVX2; SVE256"
    ]
