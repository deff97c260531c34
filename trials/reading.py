"""Read a protocol or sweep by its file or name; every mistake is one line that says what to do."""

import dataclasses
import typing
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from atat_ray.defenses import DEFENSES
from atat_ray.inversion.attacks import ATTACKS
from atat_ray.names import unknown
from atat_ray.priors import PRIORS
from trials.protocol import Protocol, Settings
from trials.sweep import METHODS, SweepSettings

SHIPPED = Path(__file__).parent / "protocols"
SHIPPED_SWEEPS = Path(__file__).parent / "sweeps"
TAGGED = {**DEFENSES, **PRIORS}


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


def explain(
    error: ValidationError, source: str, nodes: Any, root: type[Settings] = Protocol
) -> str:
    """Turn pydantic's first complaint into one line with file and line number."""
    complaints = error.errors()
    first = next((c for c in complaints if "unexpected" in c["type"] or "extra" in c["type"]), None)
    problem = first or complaints[0]
    located = getattr(problem.get("ctx", {}).get("error"), "location", ())
    location = without_tags(problem["loc"])
    where = " ".join(".".join(str(part) for part in location).split())
    lines = location or list(located)
    place = f"{source}:{line_of(nodes, lines)}" if lines and nodes else source
    kind, given = problem["type"], problem.get("input")
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        allowed = allowed_keys(problem["loc"][:-1], root)
        return f"{place}: {unknown('key', where, [prefixed(where, key) for key in allowed])}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return f"{place}: {explain_tag(where, given, kind, problem)}"
    if kind == "missing":
        return f"{place}: {where} is missing{near_miss(problem, location)}"
    message = " ".join(problem["msg"].removeprefix("Value error, ").split())
    if kind == "value_error":
        return f"{place}: {where}: {message}" if where else f"{place}: {message}"
    if kind == "string_pattern_mismatch":
        message = "names are made of a-z, 0-9, ., - and _, and start with a letter or digit"
    return f"{place}: {where}: {message[0].lower()}{message[1:]}, got {given!r}"


def without_tags(location: tuple[Any, ...]) -> list[Any]:
    """Drop what pydantic puts into a location for the members of a union."""
    parts = list(location)
    if parts[:1] == ["units_per_arm"]:
        return parts[:1]
    if parts[:1] == ["search"] and len(parts) > 1 and parts[1] in METHODS:
        del parts[1]
        return [part for part in parts if part not in ("int", "float")]
    tag = {"arms": 2, "inversions": 3}.get(str(parts[0])) if parts else None
    if tag is not None and len(parts) > tag and parts[tag] in TAGGED:
        del parts[tag]
    return parts


def prefixed(where: str, key: str) -> str:
    """Write an allowed key with the path of the wrong one, so that the nearest can be found."""
    head, dot, _ = where.rpartition(".")
    return f"{head}{dot}{key}"


def near_miss(problem: Any, location: list[Any]) -> str:
    """Point to a key beside a missing one that looks like it."""
    beside = problem.get("input")
    keys = [str(key) for key in beside] if isinstance(beside, dict) else []
    close = get_close_matches(str(location[-1]), keys, n=1)
    return f"; is {close[0]!r} meant to be it?" if close else ""


def explain_tag(where: str, given: Any, kind: str, problem: Any) -> str:
    """Explain a defense or prior that is not named, or not known."""
    if where == "search":
        named = isinstance(given, dict) and given.get("method")
        return f"{where}: {unknown('method', str(named or 'missing'), METHODS)}"
    key = "defense" if where.startswith("arms") else "name"
    kinds = DEFENSES if key == "defense" else PRIORS
    what = "defense" if key == "defense" else "prior"
    if kind == "union_tag_invalid":
        return f"{where}: {unknown(what, str(problem['ctx']['tag']), kinds)}"
    return f"{where}: needs {key}: NAME, one of {', '.join(sorted(kinds))}; got {given!r}"


def allowed_keys(location: tuple[Any, ...], root: type[Settings]) -> list[str]:
    """List the keys that the part of a protocol or sweep at ``location`` may have."""
    kind: Any = root
    for part in location:
        kind = tagged(kind, part) or step_into(kind, part)
    keys, preset = fields_of(kind), ["preset"] if getattr(kind, "presets", None) else []
    if kind in DEFENSES.values():
        return ["defense", *preset, *keys]
    if kind in ATTACKS.values():
        return [*preset, *keys]
    return ["name", *keys] if kind in PRIORS.values() else list(keys)


def tagged(kind: Any, part: Any) -> Any:
    """Find the member of a union that ``part`` stands for; None if it stands for none."""
    methods = [member for member in typing.get_args(kind) if member in METHODS.values()]
    return METHODS.get(part) if methods else TAGGED.get(part)


def step_into(kind: Any, part: Any) -> Any:
    """Find the type of a field, or of a mapping's values."""
    if typing.get_origin(kind) is dict:
        return typing.get_args(kind)[1]
    found = fields_of(kind).get(part, kind)
    plain = [getattr(member, "__origin__", member) for member in typing.get_args(found)]
    members = [member for member in plain if dataclasses.is_dataclass(member)]
    return members[0] if members else found  # of ``Data | None``


def fields_of(kind: Any) -> dict[str, Any]:
    """List the fields of a model or dataclass with their types."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    return {}


def line_of(nodes: Any, location: list[Any]) -> int:
    """Find the line, from 1, of the deepest part of ``location`` that the file has."""
    line = nodes.start_mark.line
    for part in location:
        children = nodes.value if isinstance(nodes, yaml.CollectionNode) else []
        if isinstance(nodes, yaml.MappingNode):
            pair = next((pair for pair in children if pair[0].value == str(part)), None)
            if pair is None:
                break
            line, nodes = pair[0].start_mark.line, pair[1]
        elif isinstance(part, int) and part < len(children):
            nodes = children[part]
            line = nodes.start_mark.line
        else:
            break
    return line + 1
