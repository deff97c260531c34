"""Read YAML text whose size, written out without aliases, is bounded."""

import itertools
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 200_000  # of a file; the longest shipped protocol has 7,000
MAX_NODES = 20_000  # keys and values, each alias counted as what it stands for
MAX_SCALAR = 10_000  # characters of one value


def read_text(path: Path) -> str:
    """Read a text file of at most ``MAX_BYTES`` bytes.

    Raises:
        ValueError: it is larger, or not UTF-8.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{size:,} bytes are too many, {MAX_BYTES:,} are allowed")
    return path.read_text(encoding="utf-8")


def parse(text: str) -> tuple[Any, yaml.Node | None]:
    """Parse YAML into plain Python values and the nodes with line numbers.

    Raises:
        yaml.YAMLError: it is not YAML, or names a type that is not plain.
        ValueError: a value is impossible, or the content is too large or contains itself.
        RecursionError: it is nested too deeply.
    """
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is not None and count_nodes(node, {}) > MAX_NODES:
        raise ValueError(
            f"more than {MAX_NODES:,} keys and values, each alias counted as what it stands for; "
            "write it with fewer aliases"
        )
    return yaml.safe_load(text), node  # merging keys changes the nodes from which values are made


def count_nodes(node: yaml.Node, counts: dict[int, int | None]) -> int:
    """Count the nodes below and including a node, those of an alias as often as it is used.

    Args:
        node: of a document.
        counts: by identity, what was counted already; None while it is being counted.

    Raises:
        ValueError: a node contains itself, or a value is too long.
    """
    if isinstance(node, yaml.ScalarNode):
        if len(node.value) > MAX_SCALAR:
            raise ValueError(f"line {node.start_mark.line + 1} has a value of {len(node.value):,} "
                             f"characters, {MAX_SCALAR:,} are allowed")  # fmt: skip
        return 1
    known = counts.get(id(node), 0)
    if known is None:
        raise ValueError(f"the anchor in line {node.start_mark.line + 1} contains itself")
    if not known:
        counts[id(node)] = None
        is_list = isinstance(node, yaml.SequenceNode)
        children = node.value if is_list else itertools.chain.from_iterable(node.value)
        known = counts[id(node)] = 1 + sum(count_nodes(child, counts) for child in children)
    return known
