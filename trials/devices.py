"""The devices that Ray has, and whether a campaign's units fit them."""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trials.protocol import Settings

# Set before ray is imported: no usage statistics, no dashboard, no logger files of each Tune trial,
# no snapshots (a campaign resumes from its own files), no handler of Ctrl-C but ours.
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "MALLOC_ARENA_MAX": "2",  # Tune runs each unit in a new thread; an arena each is never reused
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
GPU_SHARE = 0.25  # of a GPU that a unit of one process takes, where the protocol says nothing
LABEL_SHARE = 0.001  # of a node's custom resource, which only says where a unit may run
WAITING = 64  # units that a cluster is given at a time, though it has no room for all of them yet
PATIENCE = 60.0  # seconds between two words on what a cluster lacks


def start_ray() -> Any:
    """Start Ray on this machine, or join the cluster that RAY_ADDRESS names."""
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    address = os.environ.get("RAY_ADDRESS")
    local: dict[str, Any] = {"object_store_memory": 100 * 2**20, "include_dashboard": False}
    ray.init(
        address=address or "local",
        log_to_driver=False,
        logging_level=logging.ERROR,
        **({} if address else local),
    )
    return ray


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """What one process of a unit needs on one node, and how many such processes a unit has."""

    resources: dict[str, float]
    processes: int

    def __str__(self) -> str:
        words = " and ".join(f"{amount:g} {name}" for name, amount in self.resources.items())
        return f"{self.processes} processes with {words} each" if self.processes > 1 else words


def need_of(protocol: Settings, block: str, gpus: float) -> Need:
    """Say what a unit of a block needs where Ray has so many GPUs."""
    node, workers = protocol.blocks[block].node, protocol.workers
    label = {node: LABEL_SHARE} if node else {}
    if workers > 1:
        return Need(resources={"GPU" if gpus >= workers else "CPU": 1.0} | label, processes=workers)
    share = {"GPU": protocol.gpu_share or GPU_SHARE} if gpus else {}
    return Need(resources={"CPU": 1.0} | share | label, processes=1)


def room_for(need: Need, nodes: list[dict[str, float]]) -> int:
    """Count the units that fit nodes with these total resources at a time."""
    places = sum(
        min(int(node.get(name, 0) / amount + 1e-9) for name, amount in need.resources.items())
        for node in nodes
    )
    return places // need.processes


def alive(ray: Any) -> list[dict[str, float]]:
    """List the total resources of the nodes that are alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def needs(protocol: Settings, nodes: list[dict[str, float]]) -> dict[str, Need]:
    """Say what a unit of each block needs."""
    gpus = sum(node.get("GPU", 0) for node in nodes)
    return {block: need_of(protocol, block, gpus) for block in protocol.blocks}


def lacking(protocol: Settings, nodes: list[dict[str, float]]) -> list[str]:
    """Say in words what no set of these nodes has, block by block."""
    have = {}
    for node in nodes:
        for name, amount in node.items():
            if name in ("CPU", "GPU") or not name.startswith(("node:", "memory", "object_store")):
                have[name] = have.get(name, 0) + amount
    found = " and ".join(f"{amount:g} {name}" for name, amount in sorted(have.items())) or "nothing"
    return [
        f"a unit of {block} needs {need}, Ray has {found} on {len(nodes)} nodes"
        for block, need in needs(protocol, nodes).items()
        if not room_for(need, nodes)
    ]


def wait_for_room(ray: Any, protocol: Settings, echo: Callable[[str], None]) -> None:
    """Return once every kind of unit fits; ask a cluster's autoscaler for what is missing.

    Raises:
        ValueError: Ray runs on this machine alone, which does not grow.
    """
    missing, said = lacking(protocol, alive(ray)), 0.0
    try:
        while missing:
            if "RAY_ADDRESS" not in os.environ:
                raise ValueError(
                    f"{missing[0]}; lower `workers` or mend `node` in the protocol, "
                    "or use a larger machine or a cluster"
                )
            if time.monotonic() - said > PATIENCE or not said:
                wanted = needs(protocol, [{"GPU": protocol.workers}]).values()
                ask_for([n.resources for n in wanted for _ in range(n.processes)])
                echo(f"waiting for the cluster: {'; '.join(missing)} (Ctrl-C ends the wait)")
                said = time.monotonic()
            time.sleep(2)
            missing = lacking(protocol, alive(ray))
    finally:
        if said:
            ask_for([])


def ask_for(bundles: list[dict[str, float]]) -> None:
    """Ask a cluster's autoscaler to hold room for bundles until it is asked for others."""
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=bundles)


def limit(protocol: Settings, nodes: list[dict[str, float]]) -> int:
    """Say how many units may be given to Ray at a time.

    On one machine as many as fit. On a cluster more of them wait in Ray, so that its autoscaler
    sees what is wanted and a node that joins finds work; units of several workers do not, as those
    that wait would hold what others need.
    """
    fitting = min(room_for(need, nodes) for need in needs(protocol, nodes).values())
    if "RAY_ADDRESS" in os.environ and protocol.workers == 1:
        return max(fitting, WAITING)
    return max(fitting, 1)
