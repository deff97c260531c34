"""Read and write StyleGAN2 generators: safetensors files, and NVIDIA's pickles (read only)."""

import json
import os
from pathlib import Path

from atat_ray.priors.pickle_opcodes import RefusedPickle
from atat_ray.priors.stylegan2.foreign_files import describe_head, describe_pickle
from atat_ray.priors.stylegan2.networks import Generator
from atat_ray.priors.stylegan2.nvidia_pickle import read_pickle
from atat_ray.priors.stylegan2.weights import build, check_clamp, check_count, join_names
from atat_ray.utils.atomic_files import beside
from atat_ray.utils.terminal import printable

# The metadata have one key only: safetensors writes several keys in no fixed order, and the hash of
# a file would then not be a function of its content.
METADATA_KEY = "atat_ray.stylegan2"


def read_generator(path: Path) -> Generator:
    """Read a generator from a .safetensors file or, without running its code, NVIDIA's .pkl.

    Raises:
        ValueError: the file is missing, broken or malicious, or it holds no StyleGAN2 generator, or
            one with a setting that is not implemented; the message is one line.
    """
    readers = {".safetensors": read_safetensors, ".pkl": read_pickle}
    if path.suffix not in readers:
        raise ValueError(f"{path} must end in {' or '.join(sorted(readers))}")
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    what = describe_head(path)
    if what:
        raise ValueError(f"{path}: this is {what}")
    try:
        return readers[path.suffix](path)
    except RefusedPickle as error:
        what = describe_pickle(path)
        raise ValueError(f"{path}: {f'this is {what}; ' if what else ''}{error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_safetensors(path: Path) -> Generator:
    """Read a generator by the names of its tensors, and the clamp that ``write_generator`` stores.

    Raises:
        ValueError: the file is broken, its metadata hold a setting that is not implemented, or its
            tensors are not those of a generator.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
            check_count(names)
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, AttributeError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"not a complete safetensors file ({printable(str(error))}); copy or download it again"
        ) from None
    return build(tensors, read_clamp(metadata))


def read_clamp(metadata: dict[str, str]) -> float | None:
    """Read the clamp of features from the metadata of a safetensors file; None without one.

    Raises:
        ValueError: the metadata hold something else, which this reader does not implement.
    """
    other = metadata.keys() - {METADATA_KEY, "format"}
    if other:
        raise ValueError(
            f"its metadata hold {join_names(other)}, which this reader does not know; save the "
            "tensors without it"
        )
    try:
        settings = json.loads(metadata.get(METADATA_KEY, "{}"))
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict) or settings.keys() - {"clamp"}:
        raise ValueError(f"its metadata {METADATA_KEY} must be a JSON object with clamp alone")
    check_clamp(settings.get("clamp"))
    return settings.get("clamp")


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
