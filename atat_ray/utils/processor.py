"""Processor, instruction set, threads, torch and GPU of this process."""

import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import torch

CPU_INFO = Path("/proc/cpuinfo")
NO_GPU = "none"
# Environment variables that choose the instruction set of oneDNN and MKL; that of ATen has its own
# function. Only those that are set are described.
SWITCHES = (
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_CPU_ISA_HINTS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
)


def describe_processor(device: torch.device) -> dict[str, str]:
    """Describe what this process computes on; numbers may differ where a value differs.

    Args:
        device: that the unit computes on; without CUDA the GPU is ``none``.

    Returns:
        ``processor`` (model), ``instruction_set`` (of ATen, and what is set for oneDNN and MKL),
        ``threads``, ``torch`` (version) and ``gpu`` (model).
    """
    switches = [f"{name}={os.environ[name]}" for name in SWITCHES if os.environ.get(name)]
    values = {
        "processor": processor_model(),
        "instruction_set": ", ".join([torch.backends.cpu.get_cpu_capability(), *switches]),
        "threads": str(torch.get_num_threads()),
        "torch": str(torch.__version__),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else NO_GPU,
    }
    return {name: value.replace(";", ",") for name, value in values.items()}


@cache
def processor_model() -> str:
    """Name the model of the processor, with family, model and stepping where they are known.

    Virtual machines give several processors one name.
    """
    try:
        found = cpu_info(CPU_INFO.read_text(errors="replace"))
    except OSError:
        found = ""
    if not found and platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            found = result.stdout.strip()
        except OSError:
            found = ""
    return found or platform.processor() or platform.machine()


def cpu_info(text: str) -> str:
    """Read the model of the first processor in the text of Linux's ``/proc/cpuinfo``.

    Processors of ARM have no name there, but an implementer and a part.
    """
    first = text.split("\n\n")[0]
    pairs = (line.partition(":")[::2] for line in first.splitlines())
    values = {name.strip(): value.strip() for name, value in pairs}
    if "model name" in values:
        keys = {"family": "cpu family", "model": "model", "stepping": "stepping"}
        numbers = [f"{short} {values[key]}" for short, key in keys.items() if key in values]
        return ", ".join([values["model name"], *numbers])
    keys = ("CPU implementer", "CPU part", "CPU variant", "CPU revision")
    return ", ".join(f"{key} {values[key]}" for key in keys if key in values)
