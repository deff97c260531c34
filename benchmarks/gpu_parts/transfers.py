"""Count what makes the CPU wait for a device, and copies between the two, while code runs."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
WAITS = (aten._local_scalar_dense, aten.nonzero, aten.is_nonzero, aten.masked_select, aten._unique2)
COPIES = (aten._to_copy, aten.copy_)


class Transfers(TorchDispatchMode):
    """Count by kind the operations that move data to or from a device, or wait for it.

    A kind is "to device", "to CPU", "wait NAME" (the CPU needs a number of the device to go on), or
    "mixed NAME" (an operation on tensors of both; a 0-dimensional tensor of the CPU may take part).
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count it."""
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [tensor for tensor in given if tensor.device.type == self.device.type]
        name = func._overloadpacket.__name__
        if there and func._overloadpacket in WAITS:
            self.counts[f"wait {name}"] += 1
        elif there and func._overloadpacket in (aten.index, aten.index_put, aten.index_put_):
            self.count_indices(name, args[1])
        if func._overloadpacket in COPIES:
            self.count_copy(args, kwargs)
        elif there and any(tensor.dim() for tensor in given if tensor.device.type == "cpu"):
            self.counts[f"mixed {name}"] += self.device.type != "cpu"
        return func(*args, **kwargs)

    def count_indices(self, name: str, indices: Any) -> None:
        """Count an index of booleans, whose number of elements the CPU must know."""
        if any(i is not None and i.dtype == torch.bool for i in indices):
            self.counts[f"wait {name} by booleans"] += 1

    def count_copy(self, args: Any, kwargs: dict[str, Any]) -> None:
        """Count a copy whose ends are the CPU and the device."""
        if len(args) > 1 and isinstance(args[1], Tensor):  # copy_(target, source)
            ends = args[1].device.type, args[0].device.type
        else:
            target = kwargs.get("device")
            target = args[0].device if target is None else torch.device(target)
            ends = args[0].device.type, target.type
        if ends[0] != ends[1]:
            self.counts["to CPU" if ends[1] == "cpu" else "to device"] += 1


@contextmanager
def transfers(device: torch.device) -> Iterator[Counter[str]]:
    """Count transfers and waits of a device inside the block; kinds are those of Transfers."""
    mode = Transfers(device)
    with mode:
        yield mode.counts
    for name in [name for name, count in mode.counts.items() if not count]:
        del mode.counts[name]
