"""Campaigns in a folder of their own, with outcomes that were made up instead of trained."""

import json
import random
import shutil

import pytest
import torch
import yaml

from analysis import schema
from atat_ray.stages import save_stage, write_whole
from trials.campaign import enrol


def pytest_configure(config):
    # MLflow 3.17 on SQLAlchemy 2.1 warns about itself when it opens its database
    config.addinivalue_line("filterwarnings", "ignore:The ``noload`` loader strategy")


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """Work in an empty folder, with no server and no cluster named."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def write_protocol(tmp_path):
    """Return a function that writes what a protocol says to a file in the working folder."""

    def write(content, name="tiny.yaml"):
        path = tmp_path / name
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """Make MLflow's database once, as making it takes seconds, to be copied."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def enrolled(tmp_path, tiny_protocol, empty_database):
    """Return a function that enrols the small protocol in a folder, where a database is ready."""

    def start(folder="campaign", **changes):
        campaign = enrol(tiny_protocol(**changes), tmp_path / folder, None)
        shutil.copy(empty_database, campaign.folder / "mlflow.db")
        return campaign

    return start


def make_up(spec, draws):
    """Make up what ``run_unit`` would return."""
    return {
        "specification": spec.outcome_hash(),
        "unit_id": spec.unit_id,
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
            dict(zip(schema.CLASS_COLUMNS, [inversion, person, 2, 1, 2, 0, 1], strict=True))
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
        write_whole(folder / "outcome.json", json.dumps(outcome).encode())
        return outcome

    return finished
