"""What a unit needs of Ray (CPUs, GPUs, nodes), and how many units fit."""

import os
from dataclasses import dataclass

from atat_ray.utils.messages import counted
from trials.config.settings import Settings

GPU_SHARE = 0.25  # of a GPU, for a unit of one process, where the protocol has no gpu_share
NODE_SHARE = 0.001  # of a node's custom resource, which only says where a unit may run
CLUSTER_QUEUE = 64  # units that a cluster is given at a time before it has room for all of them


def cluster_address() -> str | None:
    """Return the address of the cluster that RAY_ADDRESS names; None for a Ray of this machine."""
    address = os.environ.get("RAY_ADDRESS", "").strip()
    return None if address in ("", "local") else address


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What a unit needs.

    Attributes:
        amounts: what each of its processes needs on one node, by Ray's names.
        processes: of the unit.
    """

    amounts: dict[str, float]
    processes: int

    def __str__(self) -> str:
        one = " and ".join(f"{amount:g} {name}" for name, amount in self.amounts.items())
        return f"{self.processes} processes with {one} each" if self.processes > 1 else one


def resources_of(settings: Settings, block: str, gpus: float) -> Resources:
    """Return what a unit of a block needs on a Ray that has ``gpus`` GPUs."""
    node, workers = settings.blocks[block].node, settings.workers
    label = {node: NODE_SHARE} if node else {}
    if workers > 1:
        device = "GPU" if gpus >= workers else "CPU"
        return Resources(amounts={device: 1.0} | label, processes=workers)
    share = {"GPU": settings.gpu_share or GPU_SHARE} if gpus else {}
    return Resources(amounts={"CPU": 1.0} | share | label, processes=1)


def resources_by_block(settings: Settings, nodes: list[dict[str, float]]) -> dict[str, Resources]:
    """Return what a unit of each block needs."""
    gpus = sum(node.get("GPU", 0) for node in nodes)
    return {block: resources_of(settings, block, gpus) for block in settings.blocks}


def room_for(resources: Resources, nodes: list[dict[str, float]]) -> int:
    """Count the units that fit at a time on nodes with these total resources."""
    processes = sum(
        min(int(node.get(name, 0) / amount + 1e-9) for name, amount in resources.amounts.items())
        for node in nodes
    )
    return processes // resources.processes


def missing_resources(settings: Settings, nodes: list[dict[str, float]]) -> list[str]:
    """Say, a line a block, what the units need and the nodes do not have."""
    have: dict[str, float] = {}
    for node in nodes:
        for name, amount in node.items():
            if name in ("CPU", "GPU") or not name.startswith(("node:", "memory", "object_store")):
                have[name] = have.get(name, 0) + amount
    found = " and ".join(f"{amount:g} {name}" for name, amount in sorted(have.items())) or "nothing"
    return [
        f"a unit of {block} needs {resources}, Ray has {found} on {counted(len(nodes), 'node')}"
        for block, resources in resources_by_block(settings, nodes).items()
        if not room_for(resources, nodes)
    ]


def units_at_a_time(
    settings: Settings, nodes: list[dict[str, float]], *, may_wait: bool = True
) -> int:
    """Count the units that are given to Ray at a time.

    On one machine, as many as fit. On a cluster more units wait in Ray, so that its autoscaler sees
    the demand and a node that joins finds work. Units of several workers do not wait there: a
    waiting unit would hold what others need.

    Args:
        settings: of the campaign or sweep.
        nodes: total resources of the nodes.
        may_wait: whether units may wait in Ray; not those of a search that learns from outcomes,
            which proposes a unit no earlier than it can start.
    """
    fitting = min(room_for(one, nodes) for one in resources_by_block(settings, nodes).values())
    if may_wait and cluster_address() and settings.workers == 1:
        return max(fitting, CLUSTER_QUEUE)
    return max(fitting, 1)
