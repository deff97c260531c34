"""The command line: exit codes, one line for each mistake, no slow import before it is needed."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.inference.randomisation import randomisation_test
from atat_ray.defenses import DEFENSES
from trials.allocation import draw
from trials.campaign.campaign import Campaign
from trials.campaign.notes import write_note
from trials.cli import commands, doctor
from trials.cli import program as cli
from trials.config.protocol import Protocol

COMMANDS = [
    "plan", "run", "resume", "sweep", "stop", "status", "verify", "report", "move", "doctor",
    "train", "invert", "evaluate", "prior", "data",
]  # fmt: skip
HEAVY = {"torch", "ray", "mlflow", "pandas", "pydantic", "yaml", "scipy", "matplotlib", "rich"}


@pytest.fixture
def mistaken(atat):
    """Return a function that runs a command that must fail; it returns the line on stderr."""

    def call(*words):
        code, out, err = atat(*words)
        assert code == 2
        assert out == ""
        assert err.startswith("atat: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        return err

    return call


@pytest.fixture
def tiny(content, write_protocol):
    return write_protocol(content)


@pytest.fixture
def campaign(tiny_protocol, tmp_path):
    """Create a campaign in its default folder; no unit has run."""
    return Campaign.create_or_resume(tiny_protocol(), tmp_path / "runs" / "tiny", None)


@pytest.fixture
def dead():
    """Return an address without a server."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def not_run(monkeypatch):
    """Fail the test if a campaign is run."""
    from trials.execution import run as running

    def run(*words, **options):
        pytest.fail("the campaign was run")

    monkeypatch.setattr(running, "run", run)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: atat {command}")


def test_the_tests_cover_all_commands(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    said = capsys.readouterr().out
    assert re.findall(r"^    (\w+) ", said, re.MULTILINE) == COMMANDS


def test_an_unknown_command_or_option_is_exit_code_2(capsys):
    for words in (["conclude"], ["plan"], ["plan", "orl-rct", "--fast"], ["train", "--seed", "x"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        assert ended.value.code == 2
        assert "Traceback" not in capsys.readouterr().err


def test_plan_prints_units_and_the_smallest_p_and_writes_nothing(atat, tmp_path):
    code, out, err = atat("plan", "orl-rct")
    assert (code, err) == (0, "")
    assert "24 units in 2 blocks" in out
    for arm in ("control", "treatment", "placebo"):
        assert re.search(rf"{arm} +8 units", out)
    assert "smallest two-sided exact p: 0.00041 (4,900 allocations)" in out
    assert "warning" not in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"units_per_arm": 1},
        {"units_per_arm": 3},
        {"units_per_arm": {"control": 1, "treatment": 3}},
        {"design": "pairs", "units_per_arm": 3},
    ],
    ids=["small", "blocked", "unequal", "pairs"],
)
def test_the_smallest_p_of_plan_equals_that_of_the_analysis(atat, content, write_protocol, changes):
    path = write_protocol(content | changes)
    _, out, _ = atat("plan", path)
    (printed, allocations) = re.search(r"exact p: (\S+) \(([\d,]+) alloc", out).groups()
    table = pd.DataFrame(draw(Protocol.model_validate(content | changes), "7")).rename(
        columns={"stratum": "block"}
    )
    table["standard/att_acc_1"] = np.random.default_rng(0).random(len(table))
    found = randomisation_test(
        table, "standard/att_acc_1", arm="treatment", against="control", seed=0
    )
    assert int(allocations.replace(",", "")) == found.allocations
    assert float(printed) == pytest.approx(found.smallest_p, rel=0.05)
    assert ("warning" in out) == (found.smallest_p > 0.05)


def test_an_unknown_protocol_is_one_line_with_the_nearest_name(mistaken):
    assert "did you mean 'orl-rct'" in mistaken("plan", "orl-rtc")
    assert "no protocol file missing.yaml" in mistaken("run", "missing.yaml")


def test_a_bad_protocol_is_one_line_with_file_and_line(mistaken, content, write_protocol):
    content["arms"]["treatment"]["epsilon"] = 8
    path = write_protocol(content)
    for command in ("plan", "run"):
        assert re.search(rf"{path}:\d+: arms.treatment: epsilon .* 0\.03", mistaken(command, path))


@pytest.mark.parametrize("command", ["resume", "stop", "status", "verify", "report"])
def test_a_missing_campaign_is_one_line_with_advice(mistaken, command, tmp_path):
    said = mistaken(command, "orl-rct")
    assert "no campaign in runs/orl-rct" in said
    assert "atat run" in said
    assert "no campaign in elsewhere" in mistaken(command, "orl-rct", "--out", "elsewhere")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("units", ["0", "-1"])
def test_less_than_one_unit_at_a_time_is_refused(mistaken, tiny, campaign, not_run, units):
    assert "--at-a-time must be 1 or more" in mistaken("run", tiny, "--at-a-time", units)
    assert "--at-a-time must be 1 or more" in mistaken("resume", "tiny", "--at-a-time", units)


@pytest.mark.parametrize("by_environment", [False, True])
def test_a_server_that_does_not_answer_is_one_line_and_nothing_is_written(
    mistaken, tiny, dead, tmp_path, monkeypatch, by_environment
):
    if by_environment:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", dead)
    words = [] if by_environment else ["--tracking-uri", dead]
    assert f"{dead} does not answer" in mistaken("run", tiny, *words)
    assert not (tmp_path / "runs").exists()


def test_an_unknown_scheme_of_the_record_is_one_line(mistaken, tiny):
    assert "'ftp://x' is of no known kind" in mistaken("run", tiny, "--tracking-uri", "ftp://x")


@pytest.mark.parametrize("make", [False, True], ids=["missing", "another file"])
def test_unreadable_data_is_one_line(mistaken, content, write_protocol, tmp_path, make):
    root = tmp_path / "faces"
    if make:
        (root / "s1").mkdir(parents=True)
        (root / "s1" / "1.pgm").write_bytes(b"\x89PNG")
    path = write_protocol(content | {"data": {**content["data"], "root": str(root)}})
    said = mistaken("run", path)
    assert str(root / "s1" / "1.pgm") in said
    assert not (tmp_path / "runs").exists()


def test_a_full_disk_is_one_line_and_leaves_no_partial_file(mistaken, tiny, tmp_path, monkeypatch):
    def full(*words):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    said = mistaken("run", tiny)
    assert "No space left on device" in said
    assert "run the same command again" in said
    assert [path for path in (tmp_path / "runs").rglob("*") if path.is_file()] == []


def test_a_folder_that_is_a_file_is_one_line(mistaken, tiny):
    for command in ("run", "status"):
        assert str(tiny) in mistaken(command, tiny, "--out", tiny)


def test_an_interrupt_is_exit_code_130_and_one_line(atat, monkeypatch):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "plan", interrupted)
    code, out, err = atat("plan", "orl-rct")
    assert (code, out) == (130, "")
    assert err.startswith("atat: interrupted; ")
    assert err.count("\n") == 1


def test_a_closed_output_pipe_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "trials.cli", "train", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), error) == (0, b"")


def test_another_protocol_in_the_folder_is_one_line(
    mistaken, content, campaign, write_protocol, not_run
):
    write_note(campaign.unit_folder(campaign.table[0].unit_id), "start", {"order": 1})
    path = write_protocol(content | {"alpha": 0.01})
    assert "alpha from 0.05 to 0.01" in mistaken("run", path)


@pytest.mark.parametrize("command", ["run", "resume"])
def test_a_tampered_allocation_is_not_run(mistaken, tiny, campaign, not_run, command):
    path = campaign.folder / "allocation.csv"
    path.write_text(path.read_text().replace(",control", ",treatment", 1))
    name = tiny if command == "run" else "tiny"
    assert "not what the protocol draws: unit split-0-0" in mistaken(command, name)


@pytest.mark.parametrize(
    ("old", "new"),
    [(",control\n", ",placebo\n"), (",split-0,", ",split-9,")],
    ids=["arm", "block"],
)
def test_an_allocation_with_unknown_names_is_one_line_and_verify_names_the_unit(
    mistaken, atat, campaign, not_run, old, new
):
    path = campaign.folder / "allocation.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    for command in ("resume", "status"):
        assert "allocation.csv" in mistaken(command, "tiny")
    code, out, _ = atat("verify", "tiny")
    assert code == 1
    assert re.search(r"unit split-0-0\d: recorded \w+ in split-\d, drawn \w+ in split-0", out)


def test_status_counts_units_by_arm_and_gives_reasons(atat, campaign, finish):
    first, second, *_ = campaign.table
    finish(campaign, first)
    write_note(campaign.unit_folder(second.unit_id), "failed", {"reason": "ValueError: no"})
    code, out, err = atat("status", "tiny")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:4]}
    assert rows.pop("arm") == ["finished", "failed", "pending"]
    assert rows == {first.arm: ["1", "0", "1"], second.arm: ["0", "1", "1"]}
    assert f"{second.unit_id} failed: ValueError: no" in out


def test_status_shows_no_outcome(atat, campaign, finish):
    outcome = finish(campaign, campaign.table[0])
    said = "".join(atat("status", "tiny", *options)[1] for options in ([], ["--json"]))
    for value in [outcome["clean_acc"], *outcome["inversions"].values()]:
        assert str(value)[:5] not in said
    assert "acc" not in said


def test_status_in_json_has_the_same_content(atat, campaign, finish):
    finish(campaign, campaign.table[0])
    _, out, _ = atat("status", "tiny", "--json")
    said = json.loads(out)
    assert said["campaign"] == "tiny"
    assert said["units"] == {row.unit_id: campaign.status(row) for row in campaign.table}
    assert said["arms"][campaign.table[0].arm] == {"finished": 1, "failed": 0, "pending": 1}


def test_stop_writes_its_file_and_prints_how_to_resume(atat, campaign):
    code, out, _ = atat("stop", "tiny")
    assert code == 0
    assert "atat resume tiny" in out
    assert campaign.stop_file.exists()


def test_report_without_a_record_is_one_line(mistaken, campaign):
    said = mistaken("report", "tiny")
    assert "no MLflow record" in said
    assert "`atat resume` rebuilds the record" in said
    assert not (campaign.folder / "mlflow.db").exists()


@pytest.mark.parametrize("command", ["verify", "report"])
def test_a_record_that_is_not_a_database_is_one_line(mistaken, campaign, command):
    (campaign.folder / "mlflow.db").write_bytes(100 * b"no database")
    assert "mlflow.db" in mistaken(command, "tiny")


def test_the_help_of_train_lists_every_defense(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    for name, kind in DEFENSES.items():
        assert re.search(rf"^{name} +{re.escape(kind.summary)}$", out, re.MULTILINE)
        assert kind.source in out
    assert "options: weight, epsilon, steps, step_size, random_start" in out


def test_a_model_is_trained_inverted_and_measured(atat, mistaken, tiny, tmp_path):
    words = ["train", "m", "--protocol", tiny, "--arm", "treatment", "--split", "1", "--seed", "3"]
    code, out, err = atat(*words)
    assert (code, err) == (0, "")
    assert "anti_adversarial weight=2.0 epsilon=0.01" in out
    assert out.endswith("next: atat invert m\n")
    assert atat(*words)[0] == 0  # the model exists already
    assert "another folder" in mistaken(*words[:-1], "4")

    code, out, err = atat("invert", "m")
    assert (code, err) == (0, "")
    assert out.endswith("next: atat evaluate m\n")
    with Image.open("m/standard.png") as picture:
        assert picture.size == (6 * 32, 32)  # best reconstruction of 6 classes, 32 pixels wide

    code, out, err = atat("evaluate", "m")
    assert (code, err) == (0, "")
    outcome = json.loads(Path("m/outcome.json").read_text())
    printed = dict(re.findall(r"^(\S[^\n]*?) {2,}([0-9.]+)$", out, re.MULTILINE))
    expected = {
        "clean accuracy": outcome["clean_acc"],
        **outcome["inversions"],
        "robust accuracy at epsilon 0.01": outcome["robust_acc"]["0.01"],
    }
    assert printed == {name: f"{value:.3f}" for name, value in expected.items()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "tiny.yaml"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["m", "--arm", "treatmnet"], "unknown arm 'treatmnet' (did you mean 'treatment'?)"),
        (["m", "--defense", "noise"], "unknown defense 'noise'"),
        (["m", "--defense", "decoy_noise", "weight"], "KEY=VALUE, got 'weight'"),
        (["m", "--defense", "decoy_noise", "weight=-1", "epsilon=0.1"], "must be 0 or above"),
        (["m", "--defense", "decoy_noise", "weight=1", "epsilon=8"], "for 8/255 write"),
        (["m", "--defense", "decoy_noise", "weight=1"], "epsilon is missing"),
        (["m", "--defense", "decoy_noise", "weight=[", "epsilon=0.1"], "weight"),
        (["m", "--defense", "decoy_noise", "weight={levels: [1, 2]}", "epsilon=0.1"], "weight"),
        (["m", "--split", "-1"], "greater than or equal to 0"),
        (["m", "--protocol", "nothing"], "unknown protocol 'nothing'"),
    ],
)
def test_invalid_arguments_of_train_are_one_line_and_nothing_is_written(
    mistaken, tiny, tmp_path, words, said
):
    settings = [] if "--protocol" in words else ["--protocol", tiny]
    assert said in mistaken("train", *settings, *words)
    assert list(tmp_path.iterdir()) == [tiny]


def test_train_accepts_a_protocol_with_unequal_arms(atat, content, write_protocol):
    path = write_protocol(content | {"units_per_arm": {"control": 1, "treatment": 3}})
    assert atat("train", "m", "--protocol", path)[0] == 0


def test_train_refuses_a_folder_with_other_files(mistaken, tiny, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "me.png").touch()
    assert "m is not empty and holds no model" in mistaken("train", "m", "--protocol", tiny)


@pytest.mark.parametrize("command", ["invert", "evaluate"])
def test_a_folder_without_a_model_is_one_line(mistaken, command, tmp_path):
    assert "atat train missing" in mistaken(command, "missing")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.json").write_text('{"name": ')
    assert "m/model.json" in mistaken(command, "m")


@pytest.fixture
def healthy(monkeypatch):
    """Make the checks pass that depend on this machine or are slow."""
    monkeypatch.setattr(doctor, "check_ray", lambda: "2.0 on this machine")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**40))


def test_doctor_passes_on_a_healthy_machine(atat, healthy):
    code, out, err = atat("doctor")
    assert (code, err) == (0, "")
    assert [line[:4] for line in out.splitlines()] == 8 * ["ok  "]
    assert "400 images of 40 people" in out


def test_doctor_names_each_failed_check(atat, healthy, monkeypatch, dead):
    def refuse():
        raise ValueError("Ray does not start:\nno port")

    monkeypatch.setattr(doctor, "check_ray", refuse)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**30))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", dead)
    code, out, _ = atat("doctor", "--out", "not/there/yet")
    assert code == 1
    assert re.findall(r"^BAD  (\w+)", out, re.MULTILINE) == ["ray", "record", "disk"]
    assert "Ray does not start: no port" in out
    assert len(out.splitlines()) == 8


def test_importing_the_command_line_loads_no_slow_package():
    code = "import sys, trials.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "argparse" in done.stdout.split()
    assert not set(done.stdout.split()) & HEAVY


def test_a_campaign_is_found_by_the_name_or_the_file_of_its_protocol(atat, campaign, tiny):
    said = atat("status", "tiny")[1]
    assert said.startswith(f"tiny in {campaign.folder}\n")
    assert atat("status", tiny)[1] == said


@pytest.mark.parametrize("command", ["run", "resume"])
def test_data_that_went_missing_leave_a_retried_unit_pending(
    command, mistaken, campaign, tiny, finish, monkeypatch
):
    """Without them every retried unit would fail, and the failure would be its outcome."""
    failed, *others = campaign.table
    for row in others:
        finish(campaign, row)
    write_note(campaign.unit_folder(failed.unit_id), "failed", {"reason": "ValueError: no"})

    def missing(settings):
        raise ValueError("there is no folder of faces")

    monkeypatch.setattr("trials.execution.run.check_data", missing)
    name = tiny if command == "run" else "tiny"
    assert "there is no folder of faces" in mistaken(command, name, "--retry-failed")
    assert campaign.status(failed) == "pending"


def test_a_changed_protocol_is_refused_before_any_data_are_read(
    mistaken, campaign, content, write_protocol, monkeypatch
):
    monkeypatch.setattr(
        "trials.execution.preflight.check_data", lambda settings: pytest.fail("read")
    )
    write_note(campaign.unit_folder(campaign.table[0].unit_id), "start", {"order": 1})
    said = mistaken("run", write_protocol(content | {"alpha": 0.01}))
    assert "changed: alpha from 0.05 to 0.01" in said
