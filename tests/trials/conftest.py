"""Campaigns in temporary folders, with made-up outcomes instead of trained models."""

import random
import shutil
from copy import deepcopy

import pytest
import torch
import yaml

from analysis import schema
from atat_ray.unit.block_assets import evaluation_path, prior_path
from atat_ray.unit.run import stage_files
from atat_ray.utils.json_files import write_signed
from atat_ray.utils.stage_files import save_stage
from trials.campaign.campaign import Campaign
from trials.campaign.inputs import assets_note, register_inputs
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


def leave_files(campaign, spec, outcome):
    """Leave the other files that are there once a unit has finished: stages, notes, assets."""
    folder, block = campaign.unit_folder(spec.unit_id), spec.block
    assets = [evaluation_path(block, campaign.assets)]
    assets += [prior_path(block, name, campaign.assets) for name in block.priors]
    stages = [folder / name for name in stage_files(spec, outcome)]
    for path in [*assets, *stages]:
        if not path.exists():
            save_stage(path, "made up", {})
    notes = {
        folder / "start.json": {"order": 1, "time": 0.0},
        folder / "place.json": {"node": "here", "device": "cpu"},
        assets_note(campaign, block.name): {},
    }
    for path, content in notes.items():
        if not path.exists():
            write_signed(path, content)


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
        leave_files(campaign, spec, outcome)
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
    register_inputs(campaign, {})
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
