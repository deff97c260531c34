"""The cluster files are what ``ray up`` takes, checked as Ray checks them and without a cloud."""

import re
import subprocess
import tomllib
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
FILES = ["cluster.yaml", "cluster.local.yaml"]
# What stands for something of the user's: no account, bucket, address or key is really like this.
PLACEHOLDER = re.compile(
    r"sg-0123456789|ami-0123456789|:123456789012:|my-atat-bucket|\b192\.168\.0\.\d+|id_ed25519"
    r"|region: |InstanceType: g"
)


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load(text_of(name))


def check(cluster: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(deepcopy(cluster)))


def commands(cluster: dict[str, Any]) -> list[str]:
    """List every shell command of a cluster file."""
    return [line for key in cluster if key.endswith("_commands") for line in cluster[key]]


@pytest.mark.parametrize("name", FILES)
def test_ray_takes_the_file(name: str) -> None:
    check(read(name))


@pytest.mark.parametrize(
    "change",
    [{"head_node_typ": "head"}, {"head_node_type": "nothing"}, {"max_workers": "eight"}],
)
def test_the_check_can_fail(change: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"."):
        check(read("cluster.yaml") | change)


def test_the_head_schedules_nothing_and_gpu_nodes_come_and_go() -> None:
    cluster = read("cluster.yaml")
    types = cluster["available_node_types"]
    assert types.pop(cluster["head_node_type"])["resources"] == {"CPU": 0}
    assert all(kind["min_workers"] == 0 for kind in types.values())
    assert all(kind["resources"]["GPU"] for kind in types.values())
    (start,) = [c for c in read("cluster.local.yaml")["head_start_ray_commands"] if "--head" in c]
    assert "--num-cpus=0 --num-gpus=0" in start


def test_spot_nodes_come_first_and_on_demand_ones_are_alike_but_for_the_market() -> None:
    spot, demand = (
        read("cluster.yaml")["available_node_types"][name] for name in ("gpu-spot", "gpu-on-demand")
    )
    assert spot.pop("priority") > demand.pop("priority")
    assert spot["node_config"].pop("InstanceMarketOptions") == {"MarketType": "spot"}
    assert spot == demand


def test_no_port_is_opened_to_the_world() -> None:
    """Every AWS node has a security group of the user's: without one, Ray lets SSH in from all."""
    for kind in read("cluster.yaml")["available_node_types"].values():
        assert kind["node_config"]["SecurityGroupIds"]
    assert "security_group" not in read("cluster.yaml")["provider"]
    for name in FILES:
        servers = [c for c in commands(read(name)) if "mlflow server" in c or "--head" in c]
        assert len(servers) == 2
        assert all(re.search(r"--(dashboard-)?host[= ]127\.0\.0\.1 ", line) for line in servers)
        assert "0.0.0.0" not in text_of(name)


def node_configs() -> dict[str, dict[str, Any]]:
    types = read("cluster.yaml")["available_node_types"]
    return {name: kind["node_config"] for name, kind in types.items()}


def test_gpu_nodes_have_another_instance_profile_than_the_head_which_may_start_instances() -> None:
    profiles = {name: node["IamInstanceProfile"]["Arn"] for name, node in node_configs().items()}
    head = profiles.pop("head")
    assert len(profiles) == 2
    assert head not in profiles.values()
    assert len(set(profiles.values())) == 1
    for arn in (head, *profiles.values()):
        assert f"`{arn.rpartition('/')[2]}`" in text_of("docs/cluster.md")


def test_every_node_needs_a_token_for_its_metadata_and_encrypts_its_disks() -> None:
    for node in node_configs().values():
        assert node["MetadataOptions"]["HttpTokens"] == "required"
        assert all(disk["Ebs"]["Encrypted"] is True for disk in node["BlockDeviceMappings"])


def test_all_nodes_start_from_one_image_that_does_not_change() -> None:
    images = {node["ImageId"] for node in node_configs().values()}
    assert len(images) == 1
    assert re.fullmatch(r"ami-[0-9a-f]{17}", images.pop())


@pytest.mark.parametrize("name", FILES)
def test_every_ray_process_wants_the_token(name: str) -> None:
    cluster = read(name)
    assert cluster["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    starts = [line for line in commands(cluster) if "ray start" in line]
    assert len(starts) == 2
    assert all(line.startswith("RAY_AUTH_MODE=token ") for line in starts)


@pytest.mark.parametrize("name", FILES)
def test_a_shell_of_ray_has_the_token_and_finds_ray(name: str, tmp_path: Path) -> None:
    found = tmp_path / "atat-ray/.venv/bin/ray"
    found.parent.mkdir(parents=True)
    found.write_text("#!/bin/sh\necho $RAY_AUTH_MODE\n")
    found.chmod(0o755)
    (tmp_path / ".bashrc").touch()
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}

    def shell(*words: str) -> str:
        done = subprocess.run(
            ["bash", *words], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    for _ in range(2):  # `ray up` may be repeated
        for line in read(name)["initialization_commands"]:
            shell("-c", line)
    assert len((tmp_path / ".bashrc").read_text().splitlines()) == 1
    # as `ray down` runs it on the head
    assert shell("--login", "-c", "-i", "source ~/.bashrc; ray stop") == "token\n"


@pytest.mark.parametrize("name", FILES)
def test_versions_are_pinned_within_what_the_project_takes(name: str) -> None:
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    ours = {one.name: one for one in map(Requirement, project["dependencies"])}
    (install,) = [line for line in commands(read(name)) if "pip install" in line]
    pins = dict(re.findall(r"'?([a-z]+)(?:\[[a-z]+\])?==([0-9.]+)", install))
    assert set(pins) == {"ray", "mlflow", "torch"}
    for package, version in pins.items():
        assert version in ours[package].specifier
    assert read(FILES[0])["setup_commands"][-1].startswith(install.removesuffix("\n"))


@pytest.mark.parametrize("name", FILES)
def test_every_line_that_a_user_must_edit_is_marked(name: str) -> None:
    lines = text_of(name).splitlines()
    assert [line for line in lines if PLACEHOLDER.search(line) and "# EDIT" not in line] == []
    assert sum("# EDIT" in line for line in lines) >= 5


@pytest.mark.parametrize("name", FILES)
def test_what_the_file_copies_and_runs_is_in_this_tree(name: str) -> None:
    cluster = read(name)
    assert (ROOT / cluster["file_mounts"]["~/atat-ray"] / "pyproject.toml").is_file()
    assert set(cluster["rsync_exclude"]) >= {".git", ".venv", "runs"}


def test_the_document_names_the_files_and_the_tunnels() -> None:
    said = text_of("docs/cluster.md")
    for name in FILES:
        assert f"ray up {name}" in said or f"`{name}`" in said
    assert re.search(r"ssh \S* ?.*-L 8265:127\.0\.0\.1:8265 .*-L 5000:127\.0\.0\.1:5000", said)
