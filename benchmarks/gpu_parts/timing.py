"""Time, memory and counted operations of a function on a device."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

WARM_UP = 2


def wait(device: torch.device) -> None:
    """Wait until the device has done all work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(function: Callable[[], Any], device: torch.device, *, steps: int) -> float:
    """Return the median time in seconds of a call, after WARM_UP calls that are not counted."""
    times = []
    for turn in range(WARM_UP + steps):
        wait(device)
        start = time.perf_counter()
        function()
        wait(device)
        if turn >= WARM_UP:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak_mib(function: Callable[[], Any], device: torch.device) -> float | None:
    """Return the largest memory in MiB that a call allocates on a GPU; None on a CPU."""
    if device.type != "cuda":
        function()
        return None
    wait(device)
    torch.cuda.reset_peak_memory_stats(device)
    function()
    wait(device)
    return torch.cuda.max_memory_allocated(device) / 2**20


class Operations(TorchDispatchMode):
    """Count the multiplications and additions of convolutions and products, backward ones too.

    PyTorch's FlopCounterMode has the same formulas and fails on gradients of images alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and add its count."""
        made = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=made)
        return made


def count_operations(function: Callable[[], Any]) -> int:
    """Count the multiplications and additions of convolutions and products in a call."""
    with Operations() as counter:
        function()
    return counter.total


def float32_peak(device: torch.device, side: int, *, steps: int) -> float:
    """Measure the operations a second of a product of two float32 matrices of ``side`` rows."""
    matrix = torch.rand(side, side, device=device)
    return 2 * side**3 / seconds(lambda: matrix @ matrix, device, steps=steps)
