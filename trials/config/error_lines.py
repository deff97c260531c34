"""Turn a validation error of pydantic into one line with file, line number and key."""

import dataclasses
import typing
from difflib import get_close_matches
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from atat_ray.defenses import DEFENSES
from atat_ray.priors import PRIORS
from atat_ray.utils.errors import unknown
from atat_ray.utils.terminal import LINE, printable
from trials.config.protocol import Protocol
from trials.config.search_methods import METHODS
from trials.config.settings import Settings


def explain(
    error: ValidationError, source: str, nodes: Any, root: type[Settings] = Protocol
) -> str:
    """Describe the first problem of a validation error in one line.

    An unknown key comes before other problems, because a misspelling often causes them.

    Args:
        error: of pydantic.
        source: name of the file.
        nodes: YAML nodes of the file, for line numbers; None if there are none.
        root: class of the settings that were validated.
    """
    problems = error.errors()
    keys = (p for p in problems if "unexpected" in p["type"] or "extra" in p["type"])
    problem = next(keys, problems[0])
    location = without_tags(problem["loc"])
    where = printable(" ".join(".".join(str(part) for part in location).split()))
    marked = location or list(getattr(problem.get("ctx", {}).get("error"), "location", ()))
    place = f"{source}:{line_of(nodes, marked)}" if marked and nodes else source
    kind, given = problem["type"], problem.get("input")
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        allowed = allowed_keys(problem["loc"][:-1], root)
        return f"{place}: {unknown('key', where, [prefixed(where, key) for key in allowed])}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return f"{place}: {explain_tag(where, given, kind, problem)}"
    if kind == "missing":
        return f"{place}: {where} is missing{near_miss(problem, location)}"
    message = printable(" ".join(problem["msg"].removeprefix("Value error, ").split()), LINE)
    if kind == "value_error":
        return f"{place}: {where}: {message}" if where else f"{place}: {message}"
    if kind == "string_pattern_mismatch":
        message = (
            "a name has at most 63 characters out of a-z, 0-9, '.', '-' and '_' and begins with a "
            "letter or digit"
        )
    return f"{place}: {where}: {message[0].lower()}{message[1:]}, got {shown(given)}"


def shown(given: Any) -> str:
    """Write a given value for a message."""
    try:
        return printable(repr(given))
    except ValueError:  # Python does not write out ints of more than 4,300 digits
        return "a value with an int of too many digits"


def without_tags(location: tuple[Any, ...]) -> list[Any]:
    """Remove the union tags that pydantic inserts into the location of an error."""
    parts = list(location)
    if parts[:1] == ["units_per_arm"]:
        return parts[:1]
    if parts[:1] == ["search"] and len(parts) > 1 and parts[1] in METHODS:
        del parts[1]
        return [part for part in parts if part not in ("int", "float")]
    tag = {"arms": 2, "inversions": 3}.get(str(parts[0])) if parts else None
    if tag is not None and len(parts) > tag and registered_class(parts[tag]):
        del parts[tag]
    return parts


def registered_class(name: Any) -> Any:
    """Return the defense or prior of a name; None if there is none."""
    return DEFENSES.get(name) or PRIORS.get(name)


def prefixed(where: str, key: str) -> str:
    """Prefix an allowed key with the path of an unknown key, so that the two can be compared."""
    head, dot, _ = where.rpartition(".")
    return f"{head}{dot}{key}"


def near_miss(problem: Any, location: list[Any]) -> str:
    """Suggest a given key that may be a misspelling of a missing one."""
    given = problem.get("input")
    keys = [str(key) for key in given] if isinstance(given, dict) else []
    close = get_close_matches(str(location[-1]), keys, n=1)
    return f"; is {shown(close[0])} a misspelling of it?" if close else ""


def explain_tag(where: str, given: Any, kind: str, problem: Any) -> str:
    """Explain the missing or unknown name of a defense, prior or search method."""
    if where == "search":
        method = isinstance(given, dict) and given.get("method")
        return f"{where}: {unknown('method', str(method or 'missing'), METHODS)}"
    key, registry = ("defense", DEFENSES) if where.startswith("arms") else ("name", PRIORS)
    if kind == "union_tag_invalid":
        return f"{where}: {unknown(registry.what, str(problem['ctx']['tag']), registry)}"
    return f"{where}: needs {key}: NAME, one of {', '.join(sorted(registry))}; got {shown(given)}"


def allowed_keys(location: tuple[Any, ...], root: type[Settings]) -> list[str]:
    """List the keys that are allowed at a location of a protocol or sweep."""
    kind: Any = root
    for part in location:
        kind = union_member(kind, part) or step_into(kind, part)
    keys, preset = fields_of(kind), ["preset"] if getattr(kind, "presets", None) else []
    if kind in DEFENSES.values():
        return ["defense", *preset, *keys]
    return ["name", *keys] if kind in PRIORS.values() else [*preset, *keys]


def union_member(kind: Any, tag: Any) -> Any:
    """Return the member of a union that a tag names; None if it names none."""
    methods = [member for member in typing.get_args(kind) if member in METHODS.values()]
    return METHODS.get(tag) if methods else registered_class(tag)


def step_into(kind: Any, part: Any) -> Any:
    """Return the type of a field, or of a mapping's values."""
    if typing.get_origin(kind) is dict:
        return typing.get_args(kind)[1]
    hint = fields_of(kind).get(part, kind)
    plain = [getattr(member, "__origin__", member) for member in typing.get_args(hint)]
    members = [member for member in plain if dataclasses.is_dataclass(member)]
    return members[0] if members else hint  # the dataclass of ``Data | None``


def fields_of(kind: Any) -> dict[str, Any]:
    """List the fields of a model or dataclass with their types."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    return {}


def line_of(nodes: Any, location: list[Any]) -> int:
    """Find the line (from 1) of the deepest part of a location that the file contains."""
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
