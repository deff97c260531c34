"""What the machine is, and which packages are missing."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from gpu_parts.session import Bench

OPTIONAL = ("pyautoattack",)
NAMED = ("torch", "torchvision", *OPTIONAL)
ROOT = Path(__file__).resolve().parents[2]


def machine_part(bench: Bench) -> None:
    """Write the names and versions of hardware and software."""
    bench.measure("machine", lambda: {**describe(bench), "note": missing()})
    if bench.on_gpu:
        bench.measure("GPU", lambda: describe_gpu(bench.device))
    else:
        bench.write("GPU", "left out", "torch finds no CUDA device: everything runs on the CPU")


def describe(bench: Bench) -> dict[str, Any]:
    """Return versions, and the commit of the checkout if git knows it."""
    return {
        "python": platform.python_version(),
        **{name: installed(name) for name in NAMED},
        "commit": commit(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def describe_gpu(device: torch.device) -> dict[str, Any]:
    """Return what CUDA says of the GPU."""
    found = torch.cuda.get_device_properties(device)
    return {
        "name": found.name,
        "MiB": found.total_memory // 2**20,
        "multiprocessors": found.multi_processor_count,
        "compute capability": f"{found.major}.{found.minor}",
        "CUDA": torch.version.cuda,
        "cuDNN": torch.backends.cudnn.version(),
    }


def installed(name: str) -> str:
    """Return the version of a package, or "missing"."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def missing() -> str:
    """Say what is left out because a package is missing."""
    names = [name for name in OPTIONAL if find_spec(name) is None]
    return f"left out without {', '.join(names)}: APGD" if names else ""


def commit() -> str:
    """Return the commit of the checkout, "unknown" without git."""
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
