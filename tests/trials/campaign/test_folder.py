"""Run folders: one process at a time; a closed output pipe does not end a run."""

import os
import subprocess
import sys

import pytest

from trials.campaign.lock import exclusive_lock


def test_a_locked_folder_cannot_be_locked_again(tmp_path):
    with (
        exclusive_lock(tmp_path),
        pytest.raises(ValueError, match=rf"is being run by process {os.getpid()} on .*`atat stop`"),
        exclusive_lock(tmp_path),
    ):
        pytest.fail("both ran it")
    with exclusive_lock(tmp_path):
        assert (tmp_path / "running").read_text().startswith(f"process {os.getpid()} ")
    assert (tmp_path / "running").read_text() == ""


def test_a_killed_process_releases_its_lock(tmp_path):
    code = (
        "import os, sys; from pathlib import Path\n"
        "from trials.campaign.lock import exclusive_lock\n"
        "with exclusive_lock(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=60)
    assert killed.returncode == -9
    assert (tmp_path / "running").read_text()
    with exclusive_lock(tmp_path):
        pass


def test_a_closed_output_pipe_does_not_end_the_process():
    code = (
        "import sys, time; from trials.execution.display import Lines\n"
        "for number in range(3): Lines().say('x' * 70_000)\n"
        "print('done', file=sys.stderr)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        run.stdout.read(1)
        run.stdout.close()
        assert run.stderr.read() == "done\n"
        assert run.wait(60) == 0
