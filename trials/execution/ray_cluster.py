"""Start Ray or join a cluster, and wait until the units fit."""

import logging
import os
import re
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from trials.config.settings import Settings
from trials.execution.classify import RESUME_ADVICE, classify
from trials.execution.display import Lines
from trials.execution.exit_codes import INCOMPLETE, UNUSABLE
from trials.execution.resources import cluster_address, missing_resources, resources_by_block
from trials.execution.watch import is_listening, time_limit

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
# Ray's name is of the systems where it listens on the loopback interface by default.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# One instruction set for the kernels of ATen, oneDNN and MKL in the processes of units, on every
# node, so that a processor with AVX-512 gives the numbers of one without (docs/reliability.md).
KERNELS = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2",
}
TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
OBJECT_STORE = 100 * 2**20  # bytes; units exchange files
START_SECONDS = 300.0  # in which a Ray of this machine must start
JOIN_SECONDS = 60.0  # in which a cluster must be joined
LISTEN_SECONDS = 10.0  # of these, in which its server must listen
END_SECONDS = 60.0  # in which Ray must end
LAST_PORT = 65535
JOIN_ADVICE = "start the cluster, correct RAY_ADDRESS, or unset it to run on this machine"
LATE = re.compile("timed? ?out", re.IGNORECASE)  # how Ray reports a busy machine
BUSY_ADVICE = "end other programs, and run the same command again"
REMINDER_SECONDS = 60.0  # between two lines on what a cluster lacks


@contextmanager
def running_ray(display: Lines) -> Iterator[Any]:
    """Run a ``with`` block on a Ray of this machine, or on the cluster that RAY_ADDRESS names."""
    ray = start_ray(display)
    try:
        yield ray
    finally:
        late = f"Ray did not end within {END_SECONDS:.0f} s; {RESUME_ADVICE}"
        with time_limit(END_SECONDS, display, late=late, code=INCOMPLETE):
            ray.shutdown()


def start_ray(display: Lines) -> Any:
    """Start Ray on this machine, or join the cluster that RAY_ADDRESS names, in bounded time.

    A Ray of this machine listens on its loopback interface only, and has a token of its own that
    stands in no file.

    Raises:
        ValueError: Ray cannot be started or joined; the message says what to do.
    """
    address = cluster_address()
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    protect_token()
    if address is None:
        start_local(display)
    else:
        check_cluster()
        join(address, display)
    import ray

    return ray


def start_local(display: Lines) -> None:
    """Start Ray on this machine.

    Raises:
        ValueError: it does not start.
    """
    os.environ.update(LOOPBACK)
    is_wanted = os.environ.get("RAY_AUTH_MODE") != "disabled"
    if is_wanted and not any(name in os.environ for name in TOKEN_VARIABLES):
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    busy = f"the load is {os.getloadavg()[0]:.0f} on {os.cpu_count()} CPUs"
    what = f"Ray has not started on this machine ({busy})"
    with time_limit(
        START_SECONDS,
        display,
        late=f"{what} within {START_SECONDS:.0f} s; {BUSY_ADVICE}",
        code=UNUSABLE,
        progress=f"{what}; waiting {START_SECONDS:.0f} s at most",
    ):
        while True:
            others = children()
            try:
                initialise("local", object_store_memory=OBJECT_STORE, include_dashboard=False)
                return
            except Exception as error:  # Ray raises exceptions of many types
                for process in children() - others:  # Ray leaves what it started
                    process.kill()
                failure = classify(error)
                if failure.passes or LATE.search(failure.reason):
                    display.say(f"{what}: {failure.reason}; trying again")
                    time.sleep(1)
                    continue
                raise ValueError(
                    f"Ray does not start on this machine: {failure.reason}; "
                    f"{failure.remedy or BUSY_ADVICE}"
                ) from error


def children() -> set[Any]:
    """Return the processes that this one has started."""
    import ray  # noqa: F401 - brings psutil

    return set(import_module("psutil").Process().children(recursive=True))


def join(address: str, display: Lines) -> None:
    """Join a cluster.

    Raises:
        ValueError: Ray refuses to join.
    """
    place = f"the Ray cluster at RAY_ADDRESS={address}"
    display.say(f"joining {place}, within {JOIN_SECONDS:.0f} s")
    late = f"{place} does not answer within {JOIN_SECONDS:.0f} s; {JOIN_ADVICE}"
    with time_limit(JOIN_SECONDS, display, late=late, code=UNUSABLE):
        try:
            initialise(address)
        except Exception as error:  # Ray raises exceptions of many types
            reason = classify(error).reason
            raise ValueError(f"cannot join {place}: {reason}; {JOIN_ADVICE}") from error


def check_cluster() -> None:
    """Return once a server listens at the address of the cluster, if RAY_ADDRESS names one.

    Raises:
        ValueError: the address is not HOST:PORT, or nothing listens there.
    """
    address = cluster_address()
    if address in (None, "auto"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > LAST_PORT or "/" in host:
        raise ValueError(f"RAY_ADDRESS must be HOST:PORT or auto, got {address!r}; {JOIN_ADVICE}")
    end = time.monotonic() + LISTEN_SECONDS
    while not is_listening((host.strip("[]"), int(port))):
        if time.monotonic() > end:
            raise ValueError(f"nothing listens at RAY_ADDRESS={address}; {JOIN_ADVICE}")
        time.sleep(1)


def initialise(address: str, **options: Any) -> None:
    """Call ``ray.init`` with :func:`kernels`; keep the handler of SIGTERM, which it replaces.

    Ray prints pages of its servers' logs when one dies, whatever ``log_to_driver`` is; :mod:`watch
    <trials.execution.watch>` says it in one line.
    """
    import ray

    worker: Any = import_module("ray._private.worker")
    worker.print_to_stdstream = lambda *words, **options: None
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            runtime_env={"env_vars": kernels()},
            **options,
        )
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def kernels() -> dict[str, str]:
    """Return the environment that restricts the kernels of units; what the user has set stays.

    It is empty where ATen has no AVX2, because ATen does not check what it is told.
    """
    import torch

    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return {}
    return {name: os.environ.get(name, value) for name, value in KERNELS.items()}


def token_file() -> Path:
    """Return the file in which Ray keeps the token of a cluster."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def protect_token() -> None:
    """Let nobody but its owner read the token of a cluster; Ray writes it readable to all."""
    with suppress(OSError):  # there is none, or it belongs to somebody else
        if token_file().stat().st_mode & 0o077:
            token_file().chmod(0o600)


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
            if cluster_address() is None:
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
