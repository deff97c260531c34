"""Read pickles as data: no function that a pickle names is ever called.

A pickle is a program for a stack machine that can call any importable object. This machine knows
only the opcodes that build plain containers. A name in the pickle must be in a table that the
caller passes, and is replaced by the function of that table. Nothing is imported, and every other
opcode or name is refused; this is an allowlist, so no list of dangerous names has to be maintained.

Work and memory are bounded by the size of the pickle. An opcode costs a fixed amount, or as much as
it takes from the stack, where each value was pushed by an opcode. Only a call could cost more,
because the same argument can be passed many times; the machine adds up the sizes of all arguments
and stops when the sum exceeds the size of the pickle.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from atat_ray.priors.pickle_opcodes import RefusedPickle, bytes_left, read_opcodes
from atat_ray.utils.terminal import printable


@dataclass(frozen=True, slots=True)
class Replacement:
    """Function that replaces a name of the pickle; only the machine calls it.

    Attributes:
        name: name in the pickle, for messages.
        build: function that is called with the pickle's arguments.
    """

    name: str
    build: Callable[..., Any]


class Stateful:
    """Base class of values whose state in the pickle is read and dropped."""


MARK = object()
SIZED = (str, bytes, list, tuple, dict, set)
# Opcodes that push their argument unchanged.
LITERALS = frozenset([
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
])  # fmt: skip
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_SET": set,
}  # fmt: skip
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
IGNORED = frozenset(("PROTO", "FRAME", "STOP"))


class Machine:
    """The stack machine.

    Args:
        allowed: function that replaces each allowed (module, name).
        what: noun for the content, for messages: "a generator".
    """

    def __init__(self, allowed: Mapping[tuple[str, str], Callable[..., Any]], what: str) -> None:
        self.allowed = allowed
        self.what = what
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.left = 0

    def run(self, file: BinaryIO) -> Any:
        """Read one pickle from a seekable file and return its value.

        Raises:
            RefusedPickle: it uses what is not allowed, or it is broken.
        """
        try:
            self.left = bytes_left(file)
            for name, argument in read_opcodes(file, self.what):
                self.step(name, argument)
            (value,) = self.stack
        except RefusedPickle:
            raise
        except Exception as error:  # arbitrary bytes can cause any exception
            raise RefusedPickle(
                f"not a whole pickle of {self.what} "
                f"({type(error).__name__}: {printable(str(error))})"
            ) from None
        return value

    def step(self, name: str, argument: Any) -> None:
        """Execute one opcode."""
        if name in IGNORED:
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
            operand = ""
            if isinstance(argument, str):
                operand = f" ({printable(argument.replace(' ', '.'))})"
            raise RefusedPickle(
                f"the file uses the pickle opcode {name}{operand}, {self.refusal()}"
            )

    def refusal(self) -> str:
        """Return the end of a message on something that is not allowed."""
        return f"which {self.what} does not need; nothing was run"

    def pop(self) -> Any:
        """Pop the top of the stack, which must not be a mark."""
        value = self.stack.pop()
        if value is MARK:
            raise RefusedPickle("the pickle is broken: a mark where a value should be")
        return value

    def pop_to_mark(self) -> list[Any]:
        """Pop the values above the last mark, and the mark."""
        values = []
        while (value := self.stack.pop()) is not MARK:
            values.append(value)
        return values[::-1]

    def find(self, module: Any, name: Any) -> None:
        """Push the replacement of a name.

        Raises:
            RefusedPickle: the name is not allowed. A name with dots is looked up as a whole.
        """
        if not (isinstance(module, str) and isinstance(name, str)):
            raise RefusedPickle("the pickle is broken: a name is not text")
        if (module, name) not in self.allowed:
            asked = printable(f"{module}.{name}")
            raise RefusedPickle(f"the file asks for {asked}, {self.refusal()}")
        self.stack.append(Replacement(f"{module}.{name}", self.allowed[module, name]))

    def call(self) -> None:
        """Call the replacement of a name with a tuple of arguments."""
        arguments, function = self.pop(), self.pop()
        if not (isinstance(function, Replacement) and isinstance(arguments, tuple)):
            raise RefusedPickle(
                f"the file calls what is no function of {self.what}; nothing was run"
            )
        self.charge(arguments)
        try:
            self.stack.append(function.build(*arguments))
        except RefusedPickle:
            raise
        except Exception as error:  # arbitrary arguments can cause any exception
            raise RefusedPickle(
                f"the file calls {function.name} with arguments that it does not accept "
                f"({printable(str(error))})"
            ) from None

    def charge(self, arguments: tuple[Any, ...]) -> None:
        """Subtract the size of a call's arguments from what the calls of the pickle may use.

        Raises:
            RefusedPickle: the calls use more than the pickle contains.
        """
        self.left -= len(arguments)
        if self.left >= 0:
            self.left -= sum(len(part) for part in arguments if isinstance(part, SIZED))
        if self.left < 0:
            raise RefusedPickle(
                "the calls of the file use more data than the file has: it passes the same "
                f"arguments many times, {self.refusal()}"
            )

    def drop_state(self) -> None:
        """Drop the state on top of the stack; the value below it must be ``Stateful``."""
        self.pop()
        if not isinstance(self.stack[-1], Stateful):
            kind = self.stack[-1]
            kind = kind.name if isinstance(kind, Replacement) else type(kind).__name__
            raise RefusedPickle(f"the file sets the state of {kind}, {self.refusal()}")

    def put(self, pairs: list[Any]) -> None:
        """Store keys and values in the dict below them on the stack."""
        keys, values = pairs[::2], pairs[1::2]
        if type(self.stack[-1]) is not dict or not all(map(is_key, keys)):
            raise RefusedPickle("the file uses a key that is neither text nor int of 32 bits")
        self.stack[-1].update(zip(keys, values, strict=True))

    def append(self, values: list[Any]) -> None:
        """Append values to the list below them on the stack."""
        if type(self.stack[-1]) is not list:
            raise RefusedPickle("the file appends to something that is not a list")
        self.stack[-1].extend(values)

    def add(self, values: list[Any]) -> None:
        """Add values to the set below them on the stack."""
        if type(self.stack[-1]) is not set or not all(map(is_key, values)):
            raise RefusedPickle(
                "the file adds to a set something that is neither text nor int of 32 bits"
            )
        self.stack[-1].update(values)

    def remember(self, index: int) -> None:
        """Store the top of the stack in the memo under a number."""
        self.memo[index] = self.stack[-1]


def is_key(value: Any) -> bool:
    """Tell whether a value can be hashed at a cost that nobody can choose.

    The hash of a nested tuple costs as much as the tuple is long when it is written out, and
    overflows the stack of C. Wide ints can be chosen such that all have the same hash.
    """
    return type(value) is str or (type(value) is int and -(2**31) <= value < 2**31)


def find_on_stack(machine: Machine) -> None:
    """Pop a name and the module below it, and push the replacement."""
    name, module = machine.pop(), machine.pop()
    machine.find(module, name)


def pop_pair(machine: Machine) -> list[Any]:
    """Pop a value and the key below it."""
    value, key = machine.pop(), machine.pop()
    return [key, value]


STEPS: dict[str, Callable[[Machine, Any], Any]] = {
    "MARK": lambda m, _: m.stack.append(MARK),
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": lambda m, _: m.pop_to_mark(),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_to_mark())),
    "APPEND": lambda m, _: m.append([m.pop()]),
    "APPENDS": lambda m, _: m.append(m.pop_to_mark()),
    "SETITEM": lambda m, _: m.put(pop_pair(m)),
    "SETITEMS": lambda m, _: m.put(m.pop_to_mark()),
    "ADDITEMS": lambda m, _: m.add(m.pop_to_mark()),
    "GLOBAL": lambda m, names: m.find(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: find_on_stack(m),
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
        file: binary file, open for reading, in which one can seek.
        allowed: function that replaces each exact (module, name) that the pickle may use; it must
            be safe with any arguments.
        what: noun for the content, for messages: "a generator".

    Raises:
        RefusedPickle: the pickle uses anything else, or is broken; the message is one line.
    """
    return Machine(allowed, what).run(file)
