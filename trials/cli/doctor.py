"""``atat doctor``: check that this machine can run campaigns."""

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from atat_ray.utils.messages import counted
from trials.execution.classify import classify

MIN_DISK = 2 * 2**30  # bytes; a campaign on the ORL faces takes about 100 MB


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Result of one check.

    Attributes:
        check: name of the check.
        good: whether it passed.
        result: one line on what was found or what is wrong.
    """

    check: str
    good: bool
    result: str


def examine(folder: Path) -> Iterator[Finding]:
    """Run every check; a failed check is a finding, not an exception.

    Args:
        folder: in which campaigns will run.
    """
    checks: dict[str, Callable[[], str]] = {
        "python": find_python,
        "torch": check_torch,
        "token": check_token,
        "ray": check_ray,
        "mlflow": check_mlflow,
        "record": check_record,
        "disk": lambda: check_disk(folder),
        "dataset": check_dataset,
    }
    for name, check in checks.items():
        try:
            yield Finding(check=name, good=True, result=check())
        except Exception as error:  # torch, Ray and MLflow raise exceptions of many types
            text = str(error if isinstance(error, ValueError) else classify(error))
            yield Finding(check=name, good=False, result=" ".join(text.split()))


def find_python() -> str:
    """Return the version and path of this Python."""
    return f"{sys.version.split()[0]} at {sys.executable}"


def check_torch() -> str:
    """Check that torch computes on its device."""
    import torch

    if not torch.cuda.is_available():
        return f"{torch.__version__}, no CUDA device: units run on the CPU, {os.cpu_count()} cores"
    torch.ones(2, device="cuda").sum().item()
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return (
        f"{torch.__version__}, {len(names)} CUDA devices: {', '.join(names)}; "
        "benchmarks/gpu.py checks and measures one (docs/gpu.md)"
    )


def check_ray() -> str:
    """Start Ray, or join its cluster, and run a task."""
    from trials.execution.display import Lines
    from trials.execution.ray_cluster import alive_nodes, running_ray
    from trials.execution.resources import cluster_address

    with running_ray(Lines(sys.stderr)) as ray:
        nodes = alive_nodes(ray)
        cpus, gpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
        place = cluster_address() or "this machine, which listens on its loopback interface only"
        have = f"{counted(len(nodes), 'node')}, {cpus:g} CPU, {gpus:g} GPU"
        return f"{ray.__version__} on {place}: {have}"


def check_token() -> str:
    """Check that nobody else can read the token of a Ray cluster; protect it if need be."""
    from trials.execution.ray_cluster import protect_token, token_file

    protect_token()
    path = token_file()
    if not path.exists():
        return "none in a file: a Ray of this machine has one of its own for each run"
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise ValueError(
            f"others can read {path} (mode {mode:04o}), and whoever has it can run code on the "
            f"cluster; let its owner run {shlex.join(['chmod', '600', str(path)])}"
        )
    return f"only its owner can read {path}"


def check_mlflow() -> str:
    """Check that MLflow imports."""
    import mlflow

    return mlflow.__version__


def check_record() -> str:
    """Check that the tracking server answers, if one is set."""
    from trials.tracking.record import MlflowRecord

    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        return "a database in each campaign's folder; set MLFLOW_TRACKING_URI to use a server"
    record = MlflowRecord(uri, "doctor")
    record.check({}, [])
    return f"{record.uri} answers"


def check_disk(folder: Path) -> str:
    """Check that the folder can be written and that the disk has space."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        raise ValueError(f"{place} cannot be written; choose another folder with --out")
    free = shutil.disk_usage(place).free
    if free < MIN_DISK:
        raise ValueError(
            f"{free / 2**30:.1f} GiB free at {place}, 2 GiB are needed; free some space or choose "
            "another folder with --out"
        )
    return f"{free / 2**30:.0f} GiB free at {place}"


def check_dataset() -> str:
    """Read the ORL faces, which an installed package contains."""
    from atat_ray.data.readers.orl_faces import load_orl_faces

    images, people = load_orl_faces()
    return f"ORL faces: {len(images)} images of {len(people.unique())} people"
