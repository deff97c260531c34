"""Campaigns in temporary folders, with made-up outcomes instead of trained models."""

import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from copy import deepcopy

import pytest
import torch
import yaml

from analysis import schema
from atat_ray.utils.json_files import write_signed
from atat_ray.utils.stage_files import save_stage
from trials.campaign.campaign import Campaign
from trials.tracking.relocate import rewrite_artifact_paths


def pytest_configure(config):
    # MLflow 3.17 on SQLAlchemy 2.1 warns about itself when it opens its database
    config.addinivalue_line("filterwarnings", "ignore:The ``noload`` loader strategy")


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    """Work in an empty folder, with no server and no cluster named."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def write_protocol(tmp_path):
    """Return a function that writes the content of a protocol to a file."""

    def write(content, name="tiny.yaml"):
        path = tmp_path / name
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


@pytest.fixture
def sweep_content(content):
    """Return a function that returns the content of a small sweep file with a search."""

    def make(search, **changes):
        for key in ("units_per_arm", "arms", "contrasts", "alpha"):
            content.pop(key, None)
        arm = {"defense": "anti_adversarial", "steps": 2, "step_size": 0.005, "random_start": True}
        blocks = {"split-0": {"split": 0}}
        return content | {"blocks": blocks, "arm": arm, "search": deepcopy(search)} | changes

    return make


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """Create an empty MLflow database once, to be copied; creating it takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def allocated(tmp_path, tiny_protocol, empty_database):
    """Return a function that allocates the small protocol in a folder with an empty database."""

    def start(folder="campaign", **changes):
        campaign = Campaign.create_or_resume(tiny_protocol(**changes), tmp_path / folder, None)
        shutil.copy(empty_database, campaign.folder / "mlflow.db")
        return campaign

    return start


def make_up(spec, draws):
    """Make up an outcome of ``run_unit``."""
    return {
        "specification": spec.outcome_hash(),
        "unit_id": spec.unit_id,
        "contents": {"data": "d", "evaluation": "e", "priors": {n: "p" for n in spec.inversions}},
        "clean_acc": draws.random(),
        "train_acc": draws.random(),
        "diverged": False,
        "inversions": {
            schema.inversion_column(inversion, name): draws.random()
            for inversion in spec.inversions
            for name in schema.INVERSION_OUTCOMES
        },
        "robust_acc": {f"{epsilon:g}": draws.random() for epsilon in spec.robustness.epsilons},
        "classes": [
            dict(
                zip(schema.CLASS_COLUMNS, [inversion, f"s{person + 1}", 2, 1, 2, 0, 1], strict=True)
            )
            for inversion in spec.inversions
            for person in range(6)
        ],
        "curves": [{"loss": draws.random()} for _ in range(3)],
        "seconds": {"train": draws.random(), "score": draws.random()},
    }


@pytest.fixture(scope="session")
def finish():
    """Return a function that leaves in a unit's folder what a unit leaves that has run."""

    def finished(campaign, row):
        spec, folder = campaign.spec(row), campaign.unit_folder(row.unit_id)
        draws = random.Random(row.unit_id)
        pictures = {
            name: torch.tensor([[[draws.randrange(256) for _ in range(12)] for _ in range(4)]])
            for name in spec.inversions
        }
        whole = {name: picture.to(torch.uint8) for name, picture in pictures.items()}
        save_stage(folder / "score.pt", spec.score_hash(), {"pictures": whole})
        outcome = make_up(spec, draws)
        write_signed(folder / "outcome.json", outcome)
        return outcome

    return finished


def record_all(campaign, said=None):
    """Write every unit that has ended to the record, as a run does; collect what is said."""
    from trials.execution.recorder import Recorder

    recorder = Recorder(campaign, print if said is None else said.append)
    recorder.open_or_postpone()
    recorder.assets = [{"block": "split-0"}]
    recorder.catch_up()
    recorder.close()


@pytest.fixture(scope="session")
def recorded_once(tmp_path_factory, empty_database, finish):
    """Finish and record a campaign of six units once, to be copied; return its folder."""
    from trials.config.load import read_protocol

    changes = {"name": "tiny", "units_per_arm": 1}
    protocol = read_protocol("orl-rct").model_copy(update=changes)
    campaign = Campaign.create_or_resume(protocol, tmp_path_factory.mktemp("once") / "tiny", None)
    shutil.copy(empty_database, campaign.folder / "mlflow.db")
    for row in campaign.table:
        finish(campaign, row)
    record_all(campaign)
    return campaign.folder


@pytest.fixture
def recorded(recorded_once, tmp_path):
    """Copy a finished and recorded campaign to its default folder."""
    folder = Campaign.load(shutil.copytree(recorded_once, tmp_path / "runs" / "tiny")).folder
    rewrite_artifact_paths(folder / "mlflow.db", "1")
    return Campaign.load(folder)


class Driver:
    """``atat`` in a session of its own, at work on the campaign in ``folder``."""

    def __init__(self, log, folder, *words):
        self.log, self.folder = log, folder
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trials.cli", *map(str, words), "--out", str(folder)],
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def wait(self, seconds=300):
        return self.process.wait(timeout=seconds)

    def said(self):
        return self.log.read_text()

    def finished(self):
        """List the units that have an outcome."""
        return {path.parent.name for path in self.folder.glob("units/*/outcome.json")}

    def running(self):
        """List the units that have started and not ended."""
        started = {path.parent.name for path in self.folder.glob("units/*/start.json")}
        return started - self.finished()

    def until(self, condition, seconds=180):
        """Wait until something holds, while the driver runs."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.02)

    def family(self):
        """List the processes of this session: the driver, Ray's daemons and their workers."""
        import ray  # noqa: F401

        psutil = importlib.import_module("psutil")  # which Ray brings
        found = []
        for process in psutil.process_iter():
            with suppress(ProcessLookupError, psutil.Error):
                alive = process.status() != psutil.STATUS_ZOMBIE
                if alive and os.getsid(process.pid) == self.process.pid:
                    found.append(process)
        return found

    def kill(self):
        """Kill the whole session at once, as a machine does that loses its power."""
        while family := self.family():
            for process in family:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            self.process.wait()
            time.sleep(0.1)


@pytest.fixture
def driver(tmp_path):
    """Return a function that starts drivers; nothing of them outlives the test."""
    started = []

    def start(command, what, folder, *words):
        log = tmp_path / f"{len(started)}.log"
        started.append(Driver(log, folder, command, what, *words))
        return started[-1]

    yield start
    for one in started:
        one.kill()


@pytest.fixture
def run_whole(driver):
    """Return a function that runs a campaign to its end."""

    def run(protocol, folder, *words):
        one = driver("run", protocol, folder, *words)
        assert one.wait() == 0, one.said()
        return one

    return run
