"""Files of StyleGAN2 generators: safetensors, which is what priors read, and NVIDIA's pickles."""

import hashlib
import json
import os
from pathlib import Path

from torch import Tensor

from atat_ray.priors.stylegan2.networks import Generator
from atat_ray.priors.stylegan2.nvidia_pickle import read_pickle
from atat_ray.priors.stylegan2.weights import build
from atat_ray.utils.atomic_files import beside

# The only key of our metadata: safetensors writes several in no certain order, and then the hash
# of a file would not be a function of what is in it.
METADATA = "atat_ray.stylegan2"


def file_hash(path: Path) -> str:
    """Give the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_generator(path: Path) -> Generator:
    """Read a generator from a .safetensors file, or from NVIDIA's .pkl without running it.

    Raises:
        ValueError: the file is not there, is broken, hostile, or holds no such generator.
    """
    readers = {".safetensors": read_safetensors, ".pkl": read_pickle}
    if path.suffix not in readers:
        raise ValueError(f"{path} must end in {' or '.join(sorted(readers))}")
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    tensors, clamp = readers[path.suffix](path)
    try:
        return build(tensors, clamp)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], float | None]:
    """Read tensors by name, and the clamp if ``write_generator`` wrote the file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = (file.metadata() or {}).get(METADATA, "{}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        clamp = json.loads(metadata).get("clamp")
    except (SafetensorError, OSError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is no whole safetensors file: {error}") from None
    if clamp is not None and not (isinstance(clamp, int | float) and clamp > 0):
        raise ValueError(f"{path} says clamp {clamp!r}; it must be a number above 0 or null")
    return tensors, clamp


def write_generator(generator: Generator, path: Path) -> None:
    """Write a generator as safetensors, under a temporary name that is then changed.

    The same generator gives the same bytes.

    Raises:
        ValueError: there is such a file already.
    """
    from safetensors.torch import save

    if path.exists():
        raise ValueError(f"{path} is there already; choose another name, or move it away")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path)
    try:
        tensors = dict(generator.state_dict())
        # Not its save_file, whose files nobody but their owner may read.
        temporary.write_bytes(save(tensors, {METADATA: json.dumps({"clamp": generator.clamp})}))
        os.link(temporary, path)  # unlike a rename, it does not replace what came meanwhile
    except FileExistsError:
        raise ValueError(f"{path} is there already; choose another name") from None
    finally:
        temporary.unlink(missing_ok=True)
