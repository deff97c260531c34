"""The command line under signals, odd paths, encodings, closed outputs and unforeseen errors."""

import os
import shlex
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest

from trials.cli import commands, doctor, model, program
from trials.cli.summary import dashboard_command, resume_command
from trials.execution.signals import signals_as_interrupt

ODD = ["a b", "a#b", "a%20b", "a'b", 'a"b', "a$b", "a;b", "-b", "ä"]


@pytest.mark.parametrize("name", ODD)
def test_printed_commands_name_the_same_folder_when_they_are_pasted(name, tmp_path):
    folder = tmp_path / name
    run_folder = SimpleNamespace(
        settings=SimpleNamespace(name="tiny"),
        folder=folder,
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
    )
    resumed = shlex.split(resume_command(run_folder, Namespace(out=None)).strip("`"))
    assert resumed == ["atat", "resume", "tiny", "--out", str(folder)]
    shown = shlex.split(dashboard_command(run_folder), comments=True)
    assert shown[1:] == ["ui", "--backend-store-uri", run_folder.tracking_uri]
    with pytest.raises(ValueError, match="holds no model") as error:
        model.load(folder)
    pasted = str(error.value).partition("`")[2].removesuffix("`")
    assert shlex.split(pasted, comments=True) == ["atat", "train", str(folder)]


def start(code, **options):
    environment = {**os.environ, "PYTHONPATH": str(Path(program.__file__).parents[2])}
    environment |= options.pop("env", {})
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import os, sys, time\nfrom trials.cli import parser, program\n{code}",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        **options,
    )


SLEEP = """
def plan(options):
    print('begun', flush=True)
    time.sleep(60)
parser.commands.plan = plan
sys.exit(program.main(['plan', 'orl-rct']))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_any_command_is_one_line_and_exit_code_130(number):
    process = start(SLEEP)
    assert process.stdout.readline() == b"begun\n"
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.startswith(b"atat: interrupted; ")
    assert error.count(b"\n") == 1


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` sets it
    try:
        with signals_as_interrupt():
            signal.raise_signal(signal.SIGHUP)
            time.sleep(0.01)
    finally:
        signal.signal(signal.SIGHUP, before)


PRINT = """
def plan(options):
    print('caf\\u00e9 \\udcff \\u2014 done')
    raise ValueError('\\u65e5 is wrong')
parser.commands.plan = plan
sys.exit(program.main(['plan', 'orl-rct']))
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_no_character_ends_a_command_that_the_output_cannot_encode(encoding):
    process = start(PRINT, env={"PYTHONIOENCODING": encoding})
    out, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert out.endswith(b"done\n")
    assert error.startswith(b"atat: ")
    assert error.endswith(b"is wrong\n")


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_output_ends_no_command(closed, tmp_path):
    number = {"stdout": 1, "stderr": 2}[closed]
    command = f'"{sys.executable}" -m trials.cli plan --help {number}>&-'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unforeseen_error_is_one_line_that_names_the_place(capsys, monkeypatch):
    def fail(options):
        raise KeyError("nobody\nthought of this")

    monkeypatch.setattr(commands, "plan", fail)
    assert program.main(["plan", "orl-rct"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "unexpected KeyError" in error
    assert f"{Path(__file__).name}:" in error
    assert "PYTHONDEVMODE=1" in error


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (MemoryError("no more"), 1, "memory ran out (no more); close other programs"),
        (ModuleNotFoundError("No module named 'boto3'", name="boto3"), 2, "install the Python"),
        (PermissionError(13, "Permission denied", "/data/x"), 2, "owner or permissions"),
        (BrokenPipeError(32, "Broken pipe"), 2, "Broken pipe"),  # of a connection, not of stdout
    ],
    ids=repr,
)
def test_an_error_of_the_environment_has_its_remedy_from_every_command(
    capsys, monkeypatch, error, code, words
):
    def fail(options):
        raise error

    monkeypatch.setattr(commands, "report", fail)
    assert program.main(["report", "tiny"]) == code
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_doctor_protects_the_token_and_says_so(monkeypatch, tmp_path, mode):
    token = tmp_path / "auth_token"
    token.write_text("secret")
    token.chmod(mode)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    assert doctor.check_token() == f"only its owner can read {token}"
    assert token.stat().st_mode & 0o777 == 0o600


def test_doctor_tells_of_a_token_that_it_cannot_protect(monkeypatch, tmp_path):
    token = tmp_path / "auth_token"
    token.write_text("secret")
    token.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    monkeypatch.setattr(Path, "chmod", lambda self, mode: None)  # it belongs to somebody else
    with pytest.raises(ValueError, match=r"others can read .* \(mode 0644\).*chmod 600"):
        doctor.check_token()


def test_doctor_reports_an_error_of_any_type(monkeypatch):
    def fail():
        raise RuntimeError("CUDA error: no\ndevice")

    for name in ("check_ray", "check_mlflow", "check_dataset"):
        monkeypatch.setattr(doctor, name, fail)
    findings = {finding.check: finding for finding in doctor.examine(Path())}
    assert not findings["mlflow"].good
    assert "CUDA error: no device" in findings["mlflow"].result


def test_a_full_disk_below_the_output_ends_no_run():
    code = (
        "from trials.execution.display import Lines\n"
        "lines = Lines(open('/dev/full', 'w'))\n"
        "for number in range(3): lines.say('x')"
    )
    process = start(code)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, b"")


def test_a_reader_that_has_ended_is_noticed_where_nothing_is_left_to_flush(monkeypatch):
    reading, writing = os.pipe()
    with open(writing, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert not program.is_stdout_closed()
        os.close(reading)
        assert program.is_stdout_closed()
