"""Start Ray or join a cluster, and wait until the units fit."""

import logging
import os
import time
from collections.abc import Callable
from typing import Any

from trials.config.protocol import Settings
from trials.execution.resources import lacking, needs

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


def alive(ray: Any) -> list[dict[str, float]]:
    """List the total resources of the nodes that are alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


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
