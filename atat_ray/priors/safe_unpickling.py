"""Pickles read as data: what they would have called is never called.

A pickle is a program for a stack machine that may call anything by name. This machine knows the
opcodes that build plain containers; a name in the pickle must be one that the caller gave, and what
stands behind it is the caller's own function. Nothing is imported, and every other opcode or name
is refused, so that there is no list of dangerous things to keep.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO


class RefusedPickle(ValueError):
    """The pickle asks for something that is not allowed, or is not a whole pickle."""


@dataclass(frozen=True, slots=True)
class Stand:
    """What the machine puts in the place of a name; only the machine calls it.

    Attributes:
        name: as the pickle says it, for messages.
        build: called with what the pickle would have called the name with.
    """

    name: str
    build: Callable[..., Any]


class Stateful:
    """A value of ours whose pickle may give it a state, which is dropped."""


MARK = object()
KEYS = (str, int)
# Opcodes that push their argument as it stands.
LITERALS = frozenset([
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
])  # fmt: skip
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_SET": set,
}  # fmt: skip
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
SILENT = frozenset(("PROTO", "FRAME", "STOP"))


class Machine:
    """The stack machine.

    Args:
        allowed: (module, name) to what stands for it.
        what: a word for what is read, for messages: "a generator".
    """

    def __init__(self, allowed: Mapping[tuple[str, str], Callable[..., Any]], what: str) -> None:
        self.allowed = allowed
        self.what = what
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: BinaryIO) -> Any:
        """Read one pickle from a file; return what it stands for.

        Raises:
            RefusedPickle: it asks for what is not allowed, or is broken.
        """
        try:
            for opcode, argument, _ in pickletools.genops(file):
                self.step(opcode.name, argument)
            (made,) = self.stack
        except RefusedPickle:
            raise
        except Exception as error:  # the bytes may be anything, and so may what they lead to
            reason = str(error).partition("\n")[0]
            raise RefusedPickle(
                f"not a whole pickle of {self.what} ({type(error).__name__}: {reason})"
            ) from None
        return made

    def step(self, name: str, argument: Any) -> None:
        """Carry one opcode out."""
        if name in SILENT:
            return
        if name in LITERALS:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in EMPTY:
            self.stack.append(EMPTY[name]())
        elif name in TUPLES:
            self.stack.append(tuple(self.pop() for _ in range(TUPLES[name]))[::-1])
        elif name in STEPS:
            STEPS[name](self, argument)
        else:
            asked = f" ({argument.replace(' ', '.')})" if isinstance(argument, str) else ""
            raise RefusedPickle(f"the file uses the pickle opcode {name}{asked}, {self.needless()}")

    def needless(self) -> str:
        """End the sentence on something that was asked for."""
        return f"which {self.what} does not need; nothing was run"

    def pop(self) -> Any:
        """Take the top of the stack, which must not be a mark."""
        value = self.stack.pop()
        if value is MARK:
            raise RefusedPickle("the pickle is broken: a mark where a value should be")
        return value

    def pop_to_mark(self) -> list[Any]:
        """Take what lies above the last mark, and the mark."""
        values = []
        while (value := self.stack.pop()) is not MARK:
            values.append(value)
        return values[::-1]

    def find(self, module: Any, name: Any) -> None:
        """Push what stands for a name.

        Raises:
            RefusedPickle: the name is not allowed; it is looked up as it stands, dots and all.
        """
        if not (isinstance(module, str) and isinstance(name, str)):
            raise RefusedPickle("the pickle is broken: a name that is no text")
        if (module, name) not in self.allowed:
            raise RefusedPickle(f"the file asks for {module}.{name}, {self.needless()}")
        self.stack.append(Stand(f"{module}.{name}", self.allowed[module, name]))

    def call(self) -> None:
        """Build what a name and a tuple of arguments stand for."""
        arguments, stand = self.pop(), self.pop()
        if not (isinstance(stand, Stand) and isinstance(arguments, tuple)):
            raise RefusedPickle(
                f"the file calls what is no function of {self.what}; nothing was run"
            )
        try:
            self.stack.append(stand.build(*arguments))
        except RefusedPickle:
            raise
        except Exception as error:  # arguments may be anything
            reason = str(error).partition("\n")[0]
            raise RefusedPickle(
                f"the file calls {stand.name} with what it cannot take ({reason})"
            ) from None

    def drop_state(self) -> None:
        """Drop the state of the value below it, which must be one that may have one."""
        self.pop()
        if not isinstance(self.stack[-1], Stateful):
            kind = self.stack[-1]
            kind = kind.name if isinstance(kind, Stand) else type(kind).__name__
            raise RefusedPickle(f"the file sets the state of {kind}, {self.needless()}")

    def put(self, pairs: list[Any]) -> None:
        """Put keys and values into the dict below them."""
        keys, values = pairs[::2], pairs[1::2]
        # A key that is a deep tuple would overflow the stack of C when it is hashed.
        if type(self.stack[-1]) is not dict or any(type(key) not in KEYS for key in keys):
            raise RefusedPickle("the file puts something under a key that is neither text nor int")
        self.stack[-1].update(zip(keys, values, strict=True))

    def append(self, values: list[Any]) -> None:
        """Append values to the list below them."""
        if type(self.stack[-1]) is not list:
            raise RefusedPickle("the file appends to what is no list")
        self.stack[-1].extend(values)

    def add(self, values: list[Any]) -> None:
        """Add values to the set below them."""
        if type(self.stack[-1]) is not set or any(type(value) not in KEYS for value in values):
            raise RefusedPickle("the file puts into a set what is neither text nor int")
        self.stack[-1].update(values)

    def remember(self, index: int) -> None:
        """Note the top of the stack under a number."""
        self.memo[index] = self.stack[-1]


def swapped(machine: Machine) -> None:
    """Find the name that lies on the stack, below it its module."""
    name, module = machine.pop(), machine.pop()
    machine.find(module, name)


def pair(machine: Machine) -> list[Any]:
    """Take a value and the key below it."""
    value, key = machine.pop(), machine.pop()
    return [key, value]


STEPS: dict[str, Callable[[Machine, Any], Any]] = {
    "MARK": lambda m, _: m.stack.append(MARK),
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": lambda m, _: m.pop_to_mark(),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_to_mark())),
    "APPEND": lambda m, _: m.append([m.pop()]),
    "APPENDS": lambda m, _: m.append(m.pop_to_mark()),
    "SETITEM": lambda m, _: m.put(pair(m)),
    "SETITEMS": lambda m, _: m.put(m.pop_to_mark()),
    "ADDITEMS": lambda m, _: m.add(m.pop_to_mark()),
    "GLOBAL": lambda m, words: m.find(*words.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: swapped(m),
    "REDUCE": lambda m, _: m.call(),
    "NEWOBJ": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.drop_state(),
    "MEMOIZE": lambda m, _: m.remember(len(m.memo)),
    "BINPUT": lambda m, index: m.remember(index),
    "LONG_BINPUT": lambda m, index: m.remember(index),
    "BINGET": lambda m, index: m.stack.append(m.memo[index]),
    "LONG_BINGET": lambda m, index: m.stack.append(m.memo[index]),
}


def unpickle(
    file: BinaryIO, allowed: Mapping[tuple[str, str], Callable[..., Any]], *, what: str
) -> Any:
    """Read one pickle as data.

    Args:
        file: open for reading bytes.
        allowed: functions by the exact (module, name) that the pickle may say; each must be safe
            with any arguments.
        what: a word for what is read, for messages: "a generator".

    Raises:
        RefusedPickle: the pickle asks for anything else, or is broken. One line.
    """
    return Machine(allowed, what).run(file)
