"""The path from `atat run` to the training loop is the one that docs/architecture.md shows."""

import re
import traceback
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from atat_ray.unit import train_stage
from trials.cli import program
from trials.execution import run, tune

ROOT = Path(__file__).parents[3]


class Reached(Exception):
    """The training loop was reached."""


def own_frames():
    """List (file, function) of this project's frames on the stack, the outermost first."""
    frames = [
        (Path(frame.filename), frame.name.rpartition(".")[2])
        for frame in traceback.extract_stack()
        if Path(frame.filename).is_relative_to(ROOT)
    ]
    return [
        (path.relative_to(ROOT).as_posix(), name)
        for path, name in frames
        if path.parts[len(ROOT.parts)] in ("trials", "atat_ray")
    ]


def documented():
    """Read the two stacks from the first block after the mark in docs/architecture.md."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    block = text.partition("<!-- call path -->")[2].split("```")[1]
    rows = [re.findall(r"(\S+\.py)\s+(\w+)", line) for line in block.splitlines()]
    driver = [row[0] for row in rows if row]
    process = [row[1] for row in rows if len(row) > 1]
    return driver, process


def test_the_call_path_is_the_documented_one(content, write_protocol, tmp_path, monkeypatch):
    found = {}

    def see_driver(assets, units, **options):
        found["driver"] = [*own_frames(), ("trials/execution/tune.py", "run_tasks")]
        task = next(iter(units))
        task.layout.committed_file.touch()

        def see_process(*words, **options):
            inside = own_frames()[len(found["driver"]) - 1 :]
            found["process"] = [*inside, ("atat_ray/training/loop.py", "train")]
            raise Reached

        monkeypatch.setattr(train_stage, "train", see_process)
        tune.run_task({"task": task})

    cluster = SimpleNamespace(
        nodes=lambda: [{"Alive": True, "Resources": {"CPU": 1.0}}],
        get_runtime_context=lambda: SimpleNamespace(
            gcs_address="127.0.0.1:1", get_node_id=lambda: ""
        ),
    )
    monkeypatch.setattr(run, "running_ray", lambda display: nullcontext(cluster))
    monkeypatch.setattr(run, "run_tasks", see_driver)
    monkeypatch.setattr("ray.tune.report", lambda values: None)
    assert program.main(["run", str(write_protocol(content)), "--out", str(tmp_path / "out")]) == 1
    driver, process = documented()
    assert found["driver"] == driver
    assert found["process"] == process


@pytest.mark.parametrize("stack", [0, 1])
def test_each_stack_fits_on_a_page(stack):
    assert len(documented()[stack]) <= 10
