"""Read tensors in the format of ``torch.save`` before zip archives, as data.

Every tensor in NVIDIA's files embeds such a file: five pickles and the bytes. ``torch.load`` with
weights_only runs no code either, but a key of many nested tuples crashes it (segmentation fault
with torch 2.14), and it accepts names that are not needed here.
"""

import io
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atat_ray.priors.pickle_opcodes import RefusedPickle
from atat_ray.priors.safe_unpickling import Machine, Replacement

ZIP = b"PK\x03\x04"
MAGIC = 0x1950A86A20F9469CFC6C  # magic number of torch.save
VERSION = 1001  # version of the format
WHAT = "a tensor"
TYPES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}


@dataclass(frozen=True, slots=True)
class Storage:
    """Description of the numbers in the pickles: their type, their key, their count."""

    dtype: torch.dtype
    key: str
    count: int


def refuse_call(*_: Any) -> None:
    """Refuse a call of a class that may only be named."""
    raise RefusedPickle(f"the file calls a class that {WHAT} may only name")


NAMED = {("torch", name.removeprefix("torch.")): refuse_call for name in TYPES}


class StorageMachine(Machine):
    """A machine that also reads the persistent ids of storages."""

    def step(self, name: str, argument: Any) -> None:
        """Execute one opcode."""
        if name == "BINPERSID":
            self.stack.append(describe(self.pop()))
        else:
            super().step(name, argument)


def describe(identity: Any) -> Storage:
    """Convert a persistent id (word, class, key, device, count, view) to a storage description.

    The device is ignored.

    Raises:
        RefusedPickle: it has another form.
    """
    kinds = [type(part) for part in identity] if isinstance(identity, tuple) else []
    if kinds != [str, Replacement, str, str, int, type(None)] or identity[0] != "storage":
        raise RefusedPickle("a tensor of the file has no valid storage")
    return Storage(TYPES[identity[1].name], identity[2], identity[4])


def load_storage(content: bytes) -> Tensor:
    """Read the numbers (L,) of a storage from a file of ``torch.save`` in its older format.

    Raises:
        RefusedPickle: the file has other content, which the message names.
    """
    if content[:4] == ZIP:
        raise RefusedPickle("a tensor of the file is a zip archive, not numbers; nothing was run")
    file = io.BytesIO(content)
    magic, version, system, storage, keys = (
        StorageMachine(NAMED, WHAT).run(file) for _ in range(5)
    )
    if magic != MAGIC or version != VERSION or system.get("little_endian") is not True:
        raise RefusedPickle("a tensor of the file is in an unknown format of torch.save")
    if type(storage) is not Storage:
        raise RefusedPickle(f"a tensor of the file holds {type(storage).__name__}, not numbers")
    count = int.from_bytes(file.read(8), "little")
    numbers = bytearray(memoryview(content)[file.tell() :])
    expected = storage.count * storage.dtype.itemsize
    if keys != [storage.key] or not count == storage.count > 0:
        raise RefusedPickle("a tensor of the file has no numbers, or contradicts itself")
    if len(numbers) != expected:
        raise RefusedPickle(f"a tensor of the file has {len(numbers)} bytes, {expected} expected")
    return torch.frombuffer(numbers, dtype=storage.dtype)
