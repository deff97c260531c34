"""Records of pickled modules: their submodules, their tensors and their clamp, by name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from atat_ray.priors.pickle_opcodes import RefusedPickle
from atat_ray.priors.stylegan2.weights import MAX_TENSORS, check_clamp
from atat_ray.utils.terminal import printable

MAX_DEPTH = 4  # of a module in a generator: synthesis.b8.conv0.affine
NAME = re.compile(r"[A-Za-z0-9_]{1,50}")  # of a module or tensor, inside its module


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """Description of a pickled object: class name, source of its module, and state."""

    class_name: str
    module_source: str
    state: dict[str, Any]


def parts(record: Record, kind: str, prefix: str) -> dict[str, Any]:
    """List the parameters, buffers or modules of a record that are not None, by full name.

    Args:
        record: of a module.
        kind: key of its state: "_parameters", "_buffers" or "_modules".
        prefix: of the full names: empty, or the name of the module and a dot.

    Raises:
        RefusedPickle: there are too many, or a name is not one of a module or tensor.
    """
    found = record.state.get(kind, {})
    module = prefix.removesuffix(".") or "G_ema"
    if type(found) is not dict or len(found) > MAX_TENSORS:
        raise RefusedPickle(f"{module} has no valid {kind}")
    for name in found:
        if type(name) is not str or not NAME.fullmatch(name):
            raise RefusedPickle(
                f"{module} has a part named {printable(repr(name))}; a name has at most 50 letters "
                "and digits"
            )
    return {f"{prefix}{name}": part for name, part in found.items() if part is not None}


def list_modules(root: Record) -> dict[str, Record]:
    """List a module, as "", and its submodules at any depth by their full names.

    Raises:
        RefusedPickle: a module occurs twice, is nested too deeply, or there are too many, so that
            the work would not be bounded by the size of the file.
    """
    found: dict[str, Record] = {}
    waiting, seen = [("", root)], set()
    while waiting:
        name, module = waiting.pop()
        if not isinstance(module, Record) or id(module) in seen:
            raise RefusedPickle(f"{name or 'G_ema'} is not a module, or occurs twice")
        if len(seen) == MAX_TENSORS or name.count(".") >= MAX_DEPTH:
            raise RefusedPickle(
                f"the modules of the file are nested more than {MAX_DEPTH} deep, or are more than "
                f"{MAX_TENSORS:,}; those of a StyleGAN2 generator are not"
            )
        seen.add(id(module))
        found[name] = module
        waiting += parts(module, "_modules", f"{name}." if name else "").items()
    return found


def gather(modules: Mapping[str, Record]) -> dict[str, Tensor]:
    """Collect all parameters and buffers of the modules by their names in the state dict.

    Raises:
        RefusedPickle: a part is no tensor, there are too many, or they share numbers, so that a
            small file could fill the memory.
    """
    tensors: dict[str, Tensor] = {}
    for module_name, module in modules.items():
        prefix = f"{module_name}." if module_name else ""
        for kind in ("_parameters", "_buffers"):
            tensors |= parts(module, kind, prefix)
        if len(tensors) > MAX_TENSORS:
            raise RefusedPickle(f"the file has more than {MAX_TENSORS:,} tensors")
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise RefusedPickle(f"{name} is {type(tensor).__name__}, no tensor")
    stored = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in tensors.values()
    }
    if sum(tensor.nbytes for tensor in tensors.values()) > sum(stored.values()):
        raise RefusedPickle("its tensors share their numbers; those of a generator do not")
    return tensors


def find_clamp(modules: Mapping[str, Record]) -> float | None:
    """Find the one value to which all layers clamp their features; None if they do not.

    Raises:
        ValueError: the layers have different values, or an invalid one.
    """
    layers = [module for name, module in modules.items() if name.startswith("synthesis.")]
    found = [layer.state["conv_clamp"] for layer in layers if "conv_clamp" in layer.state]
    for clamp in found:
        check_clamp(clamp)
    if len(set(found)) > 1:
        raise RefusedPickle(
            f"its layers clamp to different numbers: {sorted(map(str, set(found)))}"
        )
    return found[0] if found else None
