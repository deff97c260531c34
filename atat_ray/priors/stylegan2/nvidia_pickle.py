"""Read NVIDIA's pickles of StyleGAN2 generators as data.

NVIDIA pickles an object as a call of one function with a dictionary: class name, source text of the
module (which that function would run), and state. Here the call makes a record and the source
remains text.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atat_ray.priors.pickle_opcodes import RefusedPickle
from atat_ray.priors.safe_unpickling import Stateful, unpickle
from atat_ray.priors.stylegan2.module_records import Record, find_clamp, gather, list_modules
from atat_ray.priors.stylegan2.module_settings import check_settings
from atat_ray.priors.stylegan2.networks import Generator
from atat_ray.priors.stylegan2.torch_storages import load_storage
from atat_ray.priors.stylegan2.weights import build
from atat_ray.utils.terminal import printable


@dataclass(frozen=True, slots=True, eq=False)
class NumpyType(Stateful):
    """A NumPy dtype by its code; the byte order in its state is taken to be little-endian."""

    code: str


MAX_AXES = 4  # of a weight of a convolution
NUMPY_FORMATS = {"f8": "<d", "f4": "<f", "i8": "<q", "i4": "<i", "b1": "<?"}


def make_record(meta: Any) -> Record:
    """Make a record of the dictionary from which NVIDIA's persistence would build an object."""
    name, source = meta.get("class_name"), meta.get("module_src")
    state = meta.get("state")
    if meta.get("type") != "class" or not isinstance(name, str) or not isinstance(state, dict):
        raise RefusedPickle("the file has an object without class name or state")
    return Record(name, source if isinstance(source, str) else "", state)


def make_dict(*arguments: Any) -> dict[Any, Any]:
    """Make an empty dict in place of an empty dict of another class."""
    if arguments:
        raise RefusedPickle("the file makes a dict with content; only empty ones are expected")
    return {}


def make_set(values: list[str]) -> set[str]:
    """Make a set of strings."""
    if type(values) is not list or any(type(value) is not str for value in values):
        raise RefusedPickle("the file makes a set of values that are not text")
    return set(values)


def make_numpy_type(code: str, *_: Any) -> NumpyType:
    """Make the description of a NumPy dtype."""
    if type(code) is not str or code not in NUMPY_FORMATS:
        named = printable(repr(code)) if type(code) is str else type(code).__name__
        raise RefusedPickle(f"the file has numbers of the NumPy type {named}")
    return NumpyType(code)


def make_scalar(kind: NumpyType, content: bytes) -> Any:
    """Convert a NumPy scalar to a Python number."""
    return struct.unpack(NUMPY_FORMATS[kind.code], content)[0]


def make_tensor(
    numbers: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    """Make a strided view of numbers (L,); torch checks that it stays inside."""
    if not isinstance(numbers, Tensor):
        raise RefusedPickle(f"the file makes a tensor of {type(numbers).__name__}")
    for axes in (size, stride):
        if type(axes) is not tuple or len(axes) > MAX_AXES or any(type(n) is not int for n in axes):
            raise RefusedPickle(
                f"the file makes a tensor whose axes are not {MAX_AXES} ints or less"
            )
    tensor = torch.as_strided(numbers, size, stride, offset)
    if tensor.numel() > numbers.numel():  # with strides of zero a small file could fill the memory
        raise RefusedPickle(f"the file makes a tensor {size} of {numbers.numel()} numbers")
    return tensor


def make_parameter(data: Tensor, *_: Any) -> Tensor:
    """Return the tensor of a parameter."""
    if not isinstance(data, Tensor):
        raise RefusedPickle(f"the file makes a parameter of {type(data).__name__}")
    return data


ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): make_record,
    ("dnnlib.util", "EasyDict"): make_dict,
    ("collections", "OrderedDict"): make_dict,
    ("builtins", "set"): make_set,
    ("torch.storage", "_load_from_bytes"): load_storage,
    ("torch._utils", "_rebuild_tensor_v2"): make_tensor,
    ("torch._utils", "_rebuild_parameter"): make_parameter,
    ("numpy", "dtype"): make_numpy_type,
    ("numpy.core.multiarray", "scalar"): make_scalar,
    ("numpy._core.multiarray", "scalar"): make_scalar,
}


def read_pickle(path: Path) -> Generator:
    """Read the generator ``G_ema`` of a file; no code is run.

    Raises:
        ValueError: the file uses a name or opcode that a generator does not need (the message
            names it), is broken, holds no generator, or one with a setting that is not implemented.
    """
    with path.open("rb") as file:
        content = unpickle(file, ALLOWED, what="a generator")
    network = content.get("G_ema") if isinstance(content, dict) else None
    if not isinstance(network, Record):
        raise RefusedPickle("there is no generator G_ema in it")
    modules = list_modules(network)
    generator = build(gather(modules), find_clamp(modules))
    check_settings(modules, generator)
    return generator
