"""Errors that say what is known, and where in a file the mistake is."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class Located(ValueError):
    """A mistake whose place in a file, the keys that lead to it, its finder knows."""

    def __init__(self, location: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.location = location


def at(location: tuple[str, ...], error: ValueError | str) -> Located:
    """Add the place to an error, or make one with this message."""
    return Located(location, str(error))


@contextmanager
def placed(*location: str) -> Iterator[None]:
    """Add the place to an error of the block."""
    try:
        yield
    except ValueError as error:
        raise at(location, error) from None


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """Make the error for an unknown name: what was given, the nearest, all that is known."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return ValueError(f"unknown {kind} {name!r}{hint}; known: {', '.join(names)}")
