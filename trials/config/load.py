"""Read protocols and sweeps from YAML files; report each mistake in one line."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from atat_ray.utils.errors import unknown
from atat_ray.utils.option_fields import with_absolute_paths
from atat_ray.utils.terminal import printable
from trials.config import bounded_yaml
from trials.config.error_lines import explain
from trials.config.protocol import Protocol
from trials.config.settings import Settings
from trials.config.sweep import SweepSettings

Checked = TypeVar("Checked", bound=Settings)

SHIPPED = Path(__file__).parents[1] / "protocols"
SHIPPED_SWEEPS = Path(__file__).parents[1] / "sweeps"


def shipped(folder: Path) -> dict[str, Path]:
    """List the YAML files of a folder of this package and of its folders, by name."""
    return {path.stem: path for path in sorted(folder.rglob("*.yaml"))}


def find(name: str, what: str, folder: Path) -> Path:
    """Find the file of a protocol or sweep.

    Args:
        name: path of a YAML file, or name of a shipped protocol or sweep.
        what: "protocol" or "sweep", for the message.
        folder: of the shipped ones.

    Raises:
        ValueError: no file and no shipped name matches; the message lists the shipped names.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise ValueError(f"there is no {what} file {name}; give another file, or a shipped "
                             f"{what}: {', '.join(shipped(folder))}")  # fmt: skip
        return path
    if name not in shipped(folder):
        raise ValueError(f"{unknown(what, name, shipped(folder))}; or give a .yaml file")
    return shipped(folder)[name]


def read_protocol(name: str) -> Protocol:
    """Read and validate a protocol.

    Args:
        name: of a shipped protocol, or path of a YAML file.

    Raises:
        ValueError: the file cannot be read or is not a valid protocol. The message is one line:
            file, line number, what was given, what is allowed.
    """
    path = find(name, "protocol", SHIPPED)
    content, source, nodes = read_mapping(path, "protocol")
    return with_paths(check_protocol(content, source, nodes), path.parent)


def read_sweep(name: str) -> SweepSettings:
    """Read and validate a sweep.

    Args:
        name: of a shipped sweep, or path of a YAML file.

    Raises:
        ValueError: the file cannot be read or is not a valid sweep, as for :func:`read_protocol`.
    """
    path = find(name, "sweep", SHIPPED_SWEEPS)
    content, source, nodes = read_mapping(path, "sweep")
    return with_paths(check_settings(SweepSettings, content, source, nodes), path.parent)


def read_mapping(path: Path, what: str) -> tuple[dict[str, Any], str, Any]:
    """Read the YAML mapping of a protocol or sweep.

    Returns:
        Content, name of the file, YAML nodes.

    Raises:
        ValueError: the file cannot be read, is not YAML, is not a mapping or repeats a key.
    """
    try:
        content, nodes = bounded_yaml.parse(bounded_yaml.read_text(path))
        repeated = repeated_key(nodes)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the {what} {path}: {error}") from error
    except (ValueError, RecursionError) as error:  # an impossible date, a list inside itself
        reason = printable(str(error).partition("\n")[0])
        raise ValueError(f"{path}: not a {what}: {reason}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else f"{path}"
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ValueError(f"{place}: not YAML: {printable(problem)}") from error
    if not isinstance(content, dict):
        example = (
            SHIPPED / "orl-rct.yaml" if what == "protocol" else SHIPPED_SWEEPS / "orl-sweep.yaml"
        )
        raise ValueError(f"{path}: a {what} must be a mapping of keys; see {example}")
    if repeated is not None:
        place = f"{path}:{repeated.start_mark.line + 1}"
        key = printable(repeated.value)
        raise ValueError(f"{place}: the key {key} is given twice; remove one of them")
    return content, str(path), nodes


def check_protocol(content: dict[str, Any], source: str, nodes: Any = None) -> Protocol:
    """Validate the content of a protocol; arguments and errors as for :func:`check_settings`."""
    return check_settings(Protocol, content, source, nodes)


def check_settings(
    kind: type[Checked], content: dict[str, Any], source: str, nodes: Any = None
) -> Checked:
    """Validate the content of a protocol or sweep.

    Args:
        kind: class of the settings.
        content: mapping that was read from YAML or JSON.
        source: name of the file, for the message.
        nodes: YAML nodes, for line numbers; None if there are none.

    Raises:
        ValueError: the content is not valid; the message is one line.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise ValueError(explain(error, source, nodes, kind)) from None


def with_paths(value: Any, folder: Path) -> Any:
    """Make the paths in settings absolute; those that are relative start at the file's folder.

    Args:
        value: settings, or a part of them.
        folder: of the YAML file.

    Returns:
        The same value if there is no relative path in it.
    """
    if isinstance(value, dict):
        return {key: with_paths(part, folder) for key, part in value.items()}
    if not isinstance(value, BaseModel):
        return with_absolute_paths(value, folder)
    parts = {name: getattr(value, name) for name in type(value).model_fields}
    return value.model_copy(update={name: with_paths(part, folder) for name, part in parts.items()})


def repeated_key(node: Any) -> Any:
    """Find a key that is given twice in one mapping; YAML would silently keep the last value."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                return key
            seen.add(key.value)
    children = node.value if isinstance(node, yaml.CollectionNode) else []
    for child in children:
        for part in child if isinstance(child, tuple) else (child,):
            repeated = repeated_key(part)
            if repeated is not None:
                return repeated
    return None
