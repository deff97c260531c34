"""Read a protocol or sweep by its file or name; every mistake is one line that says what to do."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from atat_ray.utils.errors import unknown
from trials.config.error_lines import explain
from trials.config.protocol import Protocol
from trials.config.sweep import SweepSettings

SHIPPED = Path(__file__).parents[1] / "protocols"
SHIPPED_SWEEPS = Path(__file__).parents[1] / "sweeps"


def shipped(folder: Path) -> dict[str, Path]:
    """List the files that ship with the package in a folder, by name."""
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find(name: str, what: str, folder: Path) -> Path:
    """Find a protocol or sweep by its file or, where it ships, by its name.

    Raises:
        ValueError: there is neither.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise ValueError(f"there is no {what} file {name}; the shipped ones are named: "
                             f"{', '.join(shipped(folder))}")  # fmt: skip
        return path
    if name not in shipped(folder):
        raise ValueError(f"{unknown(what, name, shipped(folder))}; or give a .yaml file")
    return shipped(folder)[name]


def read_protocol(name: str) -> Protocol:
    """Read and check a protocol.

    Args:
        name: of a shipped protocol, or of a YAML file.

    Raises:
        ValueError: it cannot be read or says something that is not allowed. The message is one
            line: file, line, what was given, what is allowed.
    """
    content, source, nodes = read_mapping(find(name, "protocol", SHIPPED), "protocol")
    return check_protocol(content, source, nodes)


def read_sweep(name: str) -> SweepSettings:
    """Read and check a sweep.

    Args:
        name: of a shipped sweep, or of a YAML file.

    Raises:
        ValueError: as of ``read_protocol``.
    """
    content, source, nodes = read_mapping(find(name, "sweep", SHIPPED_SWEEPS), "sweep")
    try:
        return SweepSettings.model_validate(content)
    except ValidationError as error:
        raise ValueError(explain(error, source, nodes, SweepSettings)) from None


def read_mapping(path: Path, what: str) -> tuple[dict[str, Any], str, Any]:
    """Read the YAML mapping of a protocol or sweep: content, where it comes from, YAML nodes."""
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
        nodes = yaml.compose(text, Loader=yaml.SafeLoader)
        repeated = repeated_key(nodes)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the {what} {path}: {error}") from error
    except (ValueError, RecursionError) as error:  # a date that is none, a list in itself
        raise ValueError(f"{path}: not a {what}: {str(error).splitlines()[0]}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else f"{path}"
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ValueError(f"{place}: not YAML: {problem}") from error
    if not isinstance(content, dict):
        example = (
            SHIPPED / "orl-rct.yaml" if what == "protocol" else SHIPPED_SWEEPS / "orl-sweep.yaml"
        )
        raise ValueError(f"{path}: a {what} is a mapping of keys; see {example}")
    if repeated is not None:
        raise ValueError(f"{path}:{repeated.start_mark.line + 1}: {repeated.value} stands twice")
    return content, str(path), nodes


def check_protocol(content: dict[str, Any], source: str, nodes: Any = None) -> Protocol:
    """Check what a protocol says.

    Args:
        content: as YAML or JSON holds it.
        source: where it comes from, for the message.
        nodes: the YAML nodes, if there are any, for line numbers.

    Raises:
        ValueError: it says something that is not allowed; the message is one line.
    """
    try:
        return Protocol.model_validate(content)
    except ValidationError as error:
        raise ValueError(explain(error, source, nodes)) from None


def repeated_key(node: Any) -> Any:
    """Find a key that stands twice in one mapping, of which YAML would silently keep the last."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                return key
            seen.add(key.value)
    children = node.value if isinstance(node, yaml.CollectionNode) else []
    for child in children:
        for part in child if isinstance(child, tuple) else (child,):
            found = repeated_key(part)
            if found is not None:
                return found
    return None
