"""The numbers of a tensor as ``torch.save`` wrote them before it used zip archives, read as data.

Every tensor of NVIDIA's files holds such a file inside: five pickles, and the bytes. torch's own
reader of weights alone runs nothing either, but a key of many nested tuples ends the process in it
(a segmentation fault with torch 2.14), and it knows names that are not needed here.
"""

import io
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atat_ray.priors.safe_unpickling import Machine, RefusedPickle, Stand

ZIP = b"PK\x03\x04"
MAGIC = 0x1950A86A20F9469CFC6C  # torch.save's, and the version of the format
VERSION = 1001
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
    """What the pickles say of the numbers: their type, the key they come under, their count."""

    dtype: torch.dtype
    key: str
    count: int


def never(*_: Any) -> None:
    """Refuse a call of a class that is only named."""
    raise RefusedPickle(f"the file calls a class that {WHAT} only names")


NAMED = {("torch", name.removeprefix("torch.")): never for name in TYPES}


class StorageMachine(Machine):
    """A machine that knows persistent ids too, those of storages."""

    def step(self, name: str, argument: Any) -> None:
        """Carry one opcode out."""
        if name == "BINPERSID":
            self.stack.append(describe(self.pop()))
        else:
            super().step(name, argument)


def describe(identity: Any) -> Storage:
    """Turn a persistent id (word, class, key, device, count, view) into what is needed of it.

    Raises:
        RefusedPickle: it is anything else. The device is ignored.
    """
    kinds = [type(part) for part in identity] if isinstance(identity, tuple) else []
    if kinds != [str, Stand, str, str, int, type(None)] or identity[0] != "storage":
        raise RefusedPickle("a tensor of the file has no proper storage")
    return Storage(TYPES[identity[1].name], identity[2], identity[4])


def load_storage(content: bytes) -> Tensor:
    """Read the numbers (L,) of a storage from a file of ``torch.save`` in its older format.

    Raises:
        RefusedPickle: there is anything else in it, which is named.
    """
    if content[:4] == ZIP:
        raise RefusedPickle("a tensor of the file is a zip archive, not numbers; nothing was run")
    file = io.BytesIO(content)
    magic, version, system, storage, keys = (
        StorageMachine(NAMED, WHAT).run(file) for _ in range(5)
    )
    if magic != MAGIC or version != VERSION or system.get("little_endian") is not True:
        raise RefusedPickle("a tensor of the file is in no format of torch.save known here")
    if type(storage) is not Storage:
        raise RefusedPickle(f"a tensor of the file holds {type(storage).__name__}, not numbers")
    count = int.from_bytes(file.read(8), "little")
    numbers = bytearray(memoryview(content)[file.tell() :])
    wanted = storage.count * storage.dtype.itemsize
    if keys != [storage.key] or not count == storage.count > 0:
        raise RefusedPickle("a tensor of the file says two things of its numbers, or has none")
    if len(numbers) != wanted:
        raise RefusedPickle(f"a tensor of the file has {len(numbers)} bytes, {wanted} expected")
    return torch.frombuffer(numbers, dtype=storage.dtype)
