"""The devices that Ray has, and whether a campaign's units fit them."""

import os
from dataclasses import dataclass

from trials.config.protocol import Settings

GPU_SHARE = 0.25  # of a GPU that a unit of one process takes, where the protocol says nothing
LABEL_SHARE = 0.001  # of a node's custom resource, which only says where a unit may run
WAITING = 64  # units that a cluster is given at a time, though it has no room for all of them yet


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
