"""Start Ray or join a cluster, and wait until the units fit."""

import logging
import os
import time
from collections.abc import Callable
from typing import Any

from trials.config.settings import Settings
from trials.execution.resources import missing_resources, resources_by_block

# Set before ray is imported. They switch off usage statistics, Tune's output, its log files, its
# snapshots (a campaign resumes from its own files) and its handler of Ctrl-C.
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
REMINDER_SECONDS = 60.0  # between two lines on what a cluster lacks


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


def alive_nodes(ray: Any) -> list[dict[str, float]]:
    """List the total resources of the nodes that are alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def wait_for_room(ray: Any, settings: Settings, say: Callable[[str], None]) -> None:
    """Return once a unit of every block fits; ask the autoscaler of a cluster for nodes.

    Raises:
        ValueError: Ray runs on this machine alone, and a unit does not fit.
    """
    missing, last_said = missing_resources(settings, alive_nodes(ray)), 0.0
    try:
        while missing:
            if "RAY_ADDRESS" not in os.environ:
                raise ValueError(
                    f"{missing[0]}; lower `workers` or correct `node` in the protocol, "
                    "or use a larger machine or a cluster"
                )
            if time.monotonic() - last_said > REMINDER_SECONDS or not last_said:
                wanted = resources_by_block(settings, [{"GPU": settings.workers}]).values()
                request_nodes([one.amounts for one in wanted for _ in range(one.processes)])
                say(f"waiting for the cluster: {'; '.join(missing)} (Ctrl-C ends the wait)")
                last_said = time.monotonic()
            time.sleep(2)
            missing = missing_resources(settings, alive_nodes(ray))
    finally:
        if last_said:
            request_nodes([])


def request_nodes(bundles: list[dict[str, float]]) -> None:
    """Ask the autoscaler of a cluster to hold room for these bundles, instead of earlier ones."""
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=bundles)
