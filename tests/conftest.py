"""What all tests share: one thread, and a campaign so small that a unit takes a second."""

import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from drivers import Driver

from trials.config.protocol import Protocol

AUGMENTATION = {"rotation": 5, "scale": [0.9, 1.1], "shift": 0.05}
PPA = {
    "samples": 12,
    "candidates": 3,
    "steps": 3,
    "learning_rate": 0.05,
    "betas": [0.1, 0.1],
    "crop_area": [0.9, 1.0],
    "latent_limit": 2.5,
    "keep": 2,
    "views": 2,
    "view_area": [0.5, 0.9],
}
TRAINING = {
    "epochs": 2,
    "batch_size": 14,
    "learning_rate": 0.003,
    "weight_decay": 0.01,
    "augmentation": AUGMENTATION,
}
CONTENT = {
    "name": "tiny",
    "question": "Does it run?",
    "seed": 7,
    "blocks": {"split-0": {"split": 0}, "split-1": {"split": 1}},
    "units_per_arm": 1,
    "arms": {
        "control": {"defense": "none"},
        "treatment": {
            "defense": "anti_adversarial",
            "weight": 2.0,
            "epsilon": 0.01,
            "steps": 2,
            "step_size": 0.005,
            "random_start": True,
        },
    },
    "outcome": "standard/att_acc_1",
    "contrasts": {"primary": {"arm": "treatment", "against": "control"}},
    "alpha": 0.05,
    "data": {"name": "orl_faces", "num_private": 6, "num_train": 7, "size": 32},
    "architecture": "small_resnet",
    "training": TRAINING,
    "evaluation": {"ensemble": 1, "training": TRAINING},
    "inversions": {
        "standard": {
            "prior": {"name": "rotated_pca", "num_components": 20, "num_faces": 100},
            "ppa": PPA,
        }
    },
    "robustness": {"attacks": "apgd-10", "epsilons": [0.01]},
}


# What may differ between two runs of one campaign: durations, the order and place of runs, and the
# state of the source tree, which somebody may edit meanwhile.
OF_THE_RUN = ["start_order", "node", "git_commit", "times_lost"]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Compute with one thread, as units do, so that numbers do not depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def content() -> dict[str, Any]:
    """Return what the file of a small valid protocol says, to be changed at will."""
    return deepcopy(CONTENT)


@pytest.fixture
def tiny_protocol() -> Callable[..., Protocol]:
    """Return a function that makes the small protocol, with top-level keys replaced."""

    def make(**changes: Any) -> Protocol:
        return Protocol.model_validate({**deepcopy(CONTENT), **changes})

    return make


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """Start a Ray of our own with two CPUs for the whole session, and end it."""
    import ray

    from trials.execution.ray_cluster import RAY_ENVIRONMENT

    os.environ.update(RAY_ENVIRONMENT)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def table_of() -> Callable[..., str]:
    """Return a function that reads a whole campaign back, as the text of its two tables.

    Where the record's server is known by another address here, that is given.
    """

    def read(folder: Path, uri: str = "") -> str:
        from mlflow import MlflowClient

        from analysis import schema
        from analysis.record import reader as runs
        from trials.campaign.campaign import Campaign

        campaign = Campaign.load(folder)
        uri = uri or campaign.tracking_uri
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(campaign.settings.name)
        assert experiment is not None
        query = f"tags.`{schema.KIND_TAG}` = 'unit'"
        found = client.search_runs([experiment.experiment_id], query)
        ids = [run.data.tags["unit_id"] for run in found]
        assert sorted(ids) == sorted(row.unit_id for row in campaign.table)  # none stands twice
        record = runs.load_record(uri, campaign.settings.name)
        assert set(record.units["status"]) == {schema.FINISHED}
        times = record.units.filter(regex=f"^{schema.SECONDS_PREFIX}").columns
        units = record.units.drop(columns=[*OF_THE_RUN, *times])
        return f"{units.to_csv()}\n{record.classes.to_csv()}"

    return read


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
