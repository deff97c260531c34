"""Commands that reach the record: whom they send what, what they say, what they write first."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest
from listener import listening

from analysis import schema
from analysis.record.address import Address
from trials.campaign.campaign import Campaign
from trials.campaign.inputs import commitments, contents, register_inputs, settings_sources
from trials.campaign.notes import write_note
from trials.cli import program as cli
from trials.execution import run as running
from trials.execution.recorder import Recorder
from trials.tracking.record import MlflowRecord


@pytest.fixture
def stranger(monkeypatch):
    """Start a server that nobody named, while a token for another one is in the environment."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a-secret-token")
    with listening() as found:
        yield found


@pytest.fixture
def not_run(monkeypatch):
    """Fail the test if units are run."""
    monkeypatch.setattr(running, "run", lambda *words, **options: pytest.fail("was run"))


@pytest.fixture
def campaign(allocated, tmp_path):
    """Create a campaign in its default folder; no unit has run."""
    return allocated("runs/tiny")


def record_all(campaign):
    recorder = Recorder(campaign, print)
    recorder.open_or_postpone()
    recorder.assets = [{"block": "split-0"}]
    recorder.catch_up()
    recorder.close()


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("command", ["verify", "report", "resume"])
@pytest.mark.parametrize("environment", [None, "http://127.0.0.1:9/mine"])
def test_a_folder_is_followed_to_no_address_that_the_user_did_not_give(
    atat, campaign, stranger, monkeypatch, command, environment
):
    if environment:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", environment)
    change(campaign.folder / "campaign.json", tracking_uri=stranger.uri)
    code, out, err = atat(command, "tiny")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"add --tracking-uri {stranger.uri} or set MLFLOW_TRACKING_URI" in err
    assert stranger.requests == []
    assert atat("status", "tiny")[0] == 0


@pytest.mark.parametrize("by_environment", [False, True])
def test_a_folder_is_followed_to_the_address_that_the_user_gives(
    atat, campaign, stranger, monkeypatch, by_environment
):
    change(campaign.folder / "campaign.json", tracking_uri=stranger.uri)
    if by_environment:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{stranger.uri}/")
    atat("verify", "tiny", *([] if by_environment else ["--tracking-uri", stranger.uri]))
    assert "Bearer a-secret-token" in "".join(stranger.requests)


def test_a_database_that_is_a_link_is_followed_only_if_it_is_given(atat, campaign, tmp_path):
    (campaign.folder / "mlflow.db").rename(tmp_path / "other.db")
    (campaign.folder / "mlflow.db").symlink_to(tmp_path / "other.db")
    _, _, err = atat("verify", "tiny")
    assert f"kept at sqlite:///{tmp_path}/other.db" in err


@pytest.mark.parametrize("command", ["verify", "report"])
def test_a_unit_of_a_record_sends_nothing_to_an_address_that_it_names(
    atat, recorded, stranger, command, tmp_path
):
    with closing(sqlite3.connect(recorded.folder / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE runs SET artifact_uri = ?", (f"{stranger.uri}/a/b/c",))
    atat(command, "tiny")
    assert stranger.requests == []


def test_no_file_and_no_line_has_a_secret_of_the_address(
    atat, campaign, tiny_protocol, tmp_path, capsys
):
    secret = "postgresql://ann:pa55word@127.0.0.1:9/db?sslpassword=hidden"
    Campaign.create_or_resume(tiny_protocol(), tmp_path / "other", secret)
    change(campaign.folder / "campaign.json", tracking_uri=secret)
    said = [atat(name, "tiny") for name in ("status", "verify", "report", "resume")]
    said.append(atat("status", "tiny", "--json"))
    said.append(atat("verify", "tiny", "--tracking-uri", secret))
    with pytest.raises(SystemExit):
        cli.main(["status", "tiny", "--tracking-uri", secret])
    said.append(capsys.readouterr().err)
    files = [path.read_text() for path in (tmp_path / "other").rglob("*") if path.is_file()]
    shown = json.dumps([*said, *files])
    assert "postgresql://***@127.0.0.1:9/db" in shown
    assert not [word for word in ("ann:", "pa55word", "hidden") if word in shown]


def test_everything_that_is_missing_is_told_at_once_before_anything_is_written(
    atat, content, write_protocol, tmp_path, not_run
):
    prior = tmp_path / "prior.safetensors"
    prior.write_bytes(b"not the right one")
    content["data"] = {"name": "image_folder", "root": "photos", "num_private": 6, "num_train": 1,
                       "size": 32}  # fmt: skip
    content["inversions"]["standard"]["prior"] = {
        "name": "stylegan2", "path": "prior.safetensors", "sha256": "a" * 64,
    }  # fmt: skip
    path = write_protocol(content)
    (tmp_path / "file").touch()
    code, out, err = atat("run", path, "--tracking-uri", "mysql+nothing://host/db",
                          "--out", tmp_path / "file" / "out")  # fmt: skip
    assert (code, out) == (2, "")
    first, *lines = err.splitlines()
    assert first == "atat: 4 inputs cannot be used:"
    for part in (f"{tmp_path}/photos", f"{prior} has sha256", "cannot be written", "mysql+nothing"):
        assert any(part in line for line in lines), part
    assert not (tmp_path / "runs").exists()


def test_a_name_that_another_campaign_has_at_the_address_is_refused_before_anything_is_written(
    atat, recorded, content, write_protocol, tmp_path, not_run
):
    path = write_protocol(content | {"alpha": 0.01})
    uri = recorded.tracking_uri
    _, _, err = atat("run", path, "--tracking-uri", uri, "--out", tmp_path / "new")
    assert "holds a campaign with another protocol_sha256" in err
    assert not (tmp_path / "new").exists()


def test_a_campaign_without_a_started_unit_is_begun_anew_with_a_changed_protocol(
    atat, campaign, content, write_protocol, monkeypatch
):
    record = Recorder(campaign, print).connect()
    monkeypatch.setattr("trials.cli.commands.execute", lambda run_folder, *words, **options: 0)
    code, _, err = atat("run", write_protocol(content | {"seed": 8}))
    assert code == 0
    assert "no unit had started in runs/tiny: the campaign is begun anew" in err
    assert "seed from 7 to 8" in err
    again = Campaign.load(campaign.folder)
    again.check()
    assert again.settings.seed == 8
    assert Recorder(again, print).connect().parent_id != record.parent_id
    write_note(again.unit_folder(again.table[0].unit_id), "start", {"order": 1})
    _, _, err = atat("run", write_protocol(content | {"seed": 9}))
    assert "changed: seed from 8 to 9. Undo the change" in err


def test_a_campaign_that_a_folder_claims_to_replace_keeps_its_recorded_units(recorded, tmp_path):
    copy = shutil.copytree(recorded.folder, tmp_path / "copy")
    for name in ("units", "committed.json", "allocation.csv"):
        (shutil.rmtree if (copy / name).is_dir() else type(copy).unlink)(copy / name)
    change(copy / "campaign.json", replaced=[recorded.hashes(), {}], nonce="8")
    with pytest.raises(ValueError, match="holds a campaign with another nonce_sha256"):
        Recorder(Campaign.load(copy), print).connect()


def test_the_record_moves_to_an_empty_address_with_its_looks(
    atat, recorded, empty_database, tmp_path
):
    shutil.copy(empty_database, tmp_path / "shared.db")
    former = MlflowRecord(recorded.tracking_uri, "tiny")
    former.attach()
    former.store.set_tag(former.parent_id, schema.look_tag(1), '{"finished": 4}')
    uri = f"sqlite:///{tmp_path}/shared.db"
    code, out, err = atat("move", "tiny", "--tracking-uri", uri)
    assert (code, err) == (0, "")
    assert f"kept at {uri} from now on: it was registered there with its looks (1)" in out
    assert f"the record at {recorded.tracking_uri} was left as it is" in out
    assert f"`atat resume tiny --out {recorded.folder} --tracking-uri {uri}` writes" in out
    moved = Campaign.load(recorded.folder)
    assert moved.tracking_uri == Address(uri)
    record_all(moved.at(uri))
    new = MlflowRecord(uri, "tiny")
    assert new.attach()
    assert new.tags()[schema.look_tag(1)] == '{"finished": 4}'
    assert schema.REGISTERED_AGAIN not in new.tags()
    assert len(new.units()) == len(recorded.table)
    assert (tmp_path / "artifacts").is_dir()
    code, out, _ = atat("move", "tiny", "--tracking-uri", recorded.tracking_uri)
    assert code == 0
    assert "it holds 6 of 6 units" in out
    assert Campaign.load(recorded.folder) == recorded


def test_a_moved_record_is_registered_with_the_inputs(atat, campaign, empty_database, tmp_path):
    register_inputs(campaign, settings_sources(campaign.settings))
    record_all(campaign)
    shutil.copy(empty_database, tmp_path / "shared.db")
    uri = f"sqlite:///{tmp_path}/shared.db"
    assert atat("move", "tiny", "--tracking-uri", uri)[0] == 0
    moved = Campaign.load(campaign.folder).at(uri)
    record_all(moved)
    new = MlflowRecord(uri, "tiny")
    assert new.attach()
    new.check_hashes(commitments(moved))
    assert json.loads(new.tags()[schema.INPUTS]) == contents(moved) != {}


def test_looks_and_verdicts_move_with_the_record(atat, recorded, empty_database, tmp_path):
    former = MlflowRecord(recorded.tracking_uri, "tiny")
    assert former.attach()
    of_reports = {"look/0001": '{"finished": 2, "analysed": 2, "p": null}', "claim/first": "{}"}
    for name, text in of_reports.items():
        former.store.set_tag(former.parent_id, name, text)
    shutil.copy(empty_database, tmp_path / "shared.db")
    uri = f"sqlite:///{tmp_path}/shared.db"
    assert "registered there with its looks (1)" in atat("move", "tiny", "--tracking-uri", uri)[1]
    new = MlflowRecord(uri, "tiny")
    assert new.attach()
    assert of_reports.items() <= new.tags().items()


def test_the_record_does_not_move_to_what_is_not_its_own(atat, recorded, tiny_protocol, tmp_path):
    other = Campaign.create_or_resume(tiny_protocol(seed=8), tmp_path / "other", None)
    shutil.copy(recorded.folder / "mlflow.db", other.folder / "mlflow.db")
    before = (other.folder / "campaign.json").read_bytes()
    uri = recorded.tracking_uri
    code, out, err = atat("move", "tiny", "--out", other.folder, "--tracking-uri", uri)
    assert (code, out) == (2, "")
    assert "holds a campaign with another protocol_sha256" in err
    _, _, err = atat("move", "tiny", "--tracking-uri", uri)
    assert f"is kept at {uri} already" in err
    assert (other.folder / "campaign.json").read_bytes() == before


@pytest.mark.parametrize("raised", [None, ValueError("cannot use it"), FileNotFoundError(2, "no")])
def test_a_folder_that_was_deleted_in_mid_run_is_told_so(
    atat, campaign, write_protocol, content, monkeypatch, raised
):
    def run(run_folder, **options):
        shutil.rmtree(run_folder.folder)
        if raised:
            raise raised

    monkeypatch.setattr(running, "run", run)
    monkeypatch.setattr("trials.execution.preflight.data_checks", lambda settings: [])
    code, out, err = atat("run", write_protocol(content))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"{campaign.folder} was deleted or moved while its campaign ran; put it back" in err
    assert "remove what is left of it and run `atat run PROTOCOL`" in err


def test_a_locked_database_is_one_line_that_says_to_wait(atat, recorded, monkeypatch):
    monkeypatch.setattr("analysis.record.connection.LOCK_SECONDS", 0.1)
    with closing(sqlite3.connect(recorded.folder / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        for command in ("report", "verify"):
            code, out, err = atat(command, "tiny")
            assert (code, out, err.count("\n")) == (2, "", 1)
            assert "another process holds the database" in err
            assert "wait until it has ended" in err
