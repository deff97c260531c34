"""Errors that list the allowed names and locate a mistake in a file."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

from atat_ray.utils.terminal import printable


class Located(ValueError):
    """An error about one entry of a file.

    Attributes:
        location: keys that lead to the entry, from the top of the file.
    """

    def __init__(self, location: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.location = location


def at(location: tuple[str, ...], error: ValueError | str) -> Located:
    """Attach a location to an error, or to a new error with this message."""
    return Located(location, str(error))


@contextmanager
def placed(*location: str) -> Iterator[None]:
    """Attach a location to a ValueError that the block raises."""
    try:
        yield
    except ValueError as error:
        raise at(location, error) from None


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """Return the error for an unknown name, with the nearest known name and all known names."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    shown = printable(repr(name))
    return ValueError(f"unknown {kind} {shown}{hint}; known: {', '.join(names)}")
