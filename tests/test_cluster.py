"""``cluster.yaml`` is what ``ray up`` takes, checked as Ray checks it and without a cloud."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def check(cluster: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(deepcopy(cluster)))


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def test_cluster_file_is_valid(cluster: dict[str, Any]) -> None:
    check(cluster)
    head = cluster["available_node_types"][cluster["head_node_type"]]
    assert head["resources"] == {"CPU": 0}


@pytest.mark.parametrize(
    "change",
    [
        {"head_node_typ": "head"},
        {"head_node_type": "nothing"},
        {"max_workers": "eight"},
    ],
)
def test_the_check_can_fail(cluster: dict[str, Any], change: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"."):
        check(cluster | change)


def test_what_the_file_copies_and_runs_is_in_this_tree(cluster: dict[str, Any]) -> None:
    (mounted,) = cluster["file_mounts"].values()
    assert (ROOT / mounted / "pyproject.toml").is_file()
    assert set(cluster["rsync_exclude"]) >= {".venv", "runs"}
