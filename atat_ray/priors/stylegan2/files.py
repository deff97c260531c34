"""Read and write StyleGAN2 generators: safetensors files, and NVIDIA's pickles (read only)."""

import hashlib
import json
import os
from pathlib import Path

from torch import Tensor

from atat_ray.priors.stylegan2.networks import Generator
from atat_ray.priors.stylegan2.nvidia_pickle import read_pickle
from atat_ray.priors.stylegan2.weights import build
from atat_ray.utils.atomic_files import beside

# The metadata have one key only: safetensors writes several keys in no fixed order, and the hash of
# a file would then not be a function of its content.
METADATA_KEY = "atat_ray.stylegan2"


def file_hash(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_generator(path: Path) -> Generator:
    """Read a generator from a .safetensors file or, without running its code, NVIDIA's .pkl.

    Raises:
        ValueError: the file is missing, broken or malicious, or it holds no StyleGAN2 generator.
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
    """Read tensors by name, and the clamp that ``write_generator`` stores in the metadata."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = (file.metadata() or {}).get(METADATA_KEY, "{}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        clamp = json.loads(metadata).get("clamp")
    except (SafetensorError, OSError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is not a complete safetensors file: {error}") from None
    if clamp is not None and not (isinstance(clamp, int | float) and clamp > 0):
        raise ValueError(f"{path} has clamp {clamp!r}; it must be a number above 0 or null")
    return tensors, clamp


def write_generator(generator: Generator, path: Path) -> None:
    """Write a generator to a safetensors file, atomically; the same generator gives equal bytes.

    Raises:
        ValueError: the file exists already.
    """
    from safetensors.torch import save

    if path.exists():
        raise ValueError(f"{path} exists already; choose another name, or move the file away")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path)
    try:
        tensors = dict(generator.state_dict())
        # save_file of safetensors would make a file that only its owner can read.
        temporary.write_bytes(save(tensors, {METADATA_KEY: json.dumps({"clamp": generator.clamp})}))
        os.link(temporary, path)  # unlike a rename, fails if the file exists by now
    except FileExistsError:
        raise ValueError(f"{path} exists already; choose another name") from None
    finally:
        temporary.unlink(missing_ok=True)
