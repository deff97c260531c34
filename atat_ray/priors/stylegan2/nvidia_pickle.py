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

from atat_ray.priors.safe_unpickling import RefusedPickle, Stateful, unpickle
from atat_ray.priors.stylegan2.torch_storages import ZIP, load_storage


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """Description of a pickled object: class name, source of its module, and state."""

    class_name: str
    module_source: str
    state: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class NumpyType(Stateful):
    """A NumPy dtype by its code; the byte order in its state is taken to be little-endian."""

    code: str


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
    if code not in NUMPY_FORMATS:
        raise RefusedPickle(f"the file has numbers of the NumPy type {code!r}")
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
    tensor = torch.as_strided(numbers, size, stride, offset)
    if tensor.numel() > numbers.numel():  # with strides of zero a small file could fill the memory
        raise RefusedPickle(f"the file makes a tensor {tuple(size)} of {numbers.numel()} numbers")
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


def read_pickle(path: Path) -> tuple[dict[str, Tensor], float | None]:
    """Read the tensors of ``G_ema`` by name, and the clamp of its features; no code is run.

    Raises:
        ValueError: the file uses a name or opcode that a generator does not need (the message
            names it), is broken, or holds no generator.
    """
    try:
        with path.open("rb") as file:
            if file.peek(4)[:4] == ZIP:
                raise RefusedPickle(
                    "this is a file of torch.save, not of NVIDIA; save the state dict of its "
                    "generator with safetensors.torch.save_file and convert that"
                )
            content = unpickle(file, ALLOWED, what="a generator")
        generator = content.get("G_ema") if isinstance(content, dict) else None
        if not isinstance(generator, Record):
            raise RefusedPickle("there is no generator G_ema in it")
        return gather(generator), find_clamp(generator)
    except RefusedPickle as error:
        raise ValueError(f"{path}: {error}") from None


def parts(record: Record, kind: str) -> dict[str, Any]:
    """List the parameters, buffers or modules of a record that are not None."""
    found = record.state.get(kind, {})
    if not isinstance(found, dict) or any(not isinstance(name, str) for name in found):
        raise RefusedPickle(f"{record.class_name} has no valid {kind}")
    return {name: part for name, part in found.items() if part is not None}


def walk(root: Record) -> list[tuple[str, Record]]:
    """List a module and its submodules at any depth, with the prefixes of their names.

    Raises:
        RefusedPickle: a module occurs twice, so that the walk might not end.
    """
    found, waiting, seen = [], [("", root)], set()
    while waiting:
        prefix, module = waiting.pop()
        if not isinstance(module, Record) or id(module) in seen:
            raise RefusedPickle(f"{prefix or 'G_ema'} is not a module, or occurs twice")
        seen.add(id(module))
        found.append((prefix, module))
        waiting += [(f"{prefix}{name}.", part) for name, part in parts(module, "_modules").items()]
    return found


def gather(generator: Record) -> dict[str, Tensor]:
    """Collect all parameters and buffers of a generator by their names in the state dict."""
    tensors = {}
    for prefix, module in walk(generator):
        for name, tensor in (parts(module, "_parameters") | parts(module, "_buffers")).items():
            if not isinstance(tensor, Tensor):
                raise RefusedPickle(f"{prefix}{name} is {type(tensor).__name__}, no tensor")
            tensors[f"{prefix}{name}"] = tensor
    return tensors


def find_clamp(generator: Record) -> float | None:
    """Find the one value to which all layers clamp their features; None if they do not.

    Raises:
        RefusedPickle: the layers have different values, or an invalid one.
    """
    layers = [module for prefix, module in walk(generator) if prefix.startswith("synthesis.")]
    found = [layer.state["conv_clamp"] for layer in layers if "conv_clamp" in layer.state]
    if any(clamp is not None and type(clamp) not in (int, float) for clamp in found):
        raise RefusedPickle("its layers clamp to something that is not a number")
    if len(set(found)) > 1 or any(clamp is not None and not clamp > 0 for clamp in found):
        raise RefusedPickle("its layers clamp to different numbers, or to one that is not above 0")
    return found[0] if found else None
