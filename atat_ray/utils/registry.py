"""Registry: the names that protocols can give, each with its class, imported when needed."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TypeVar

from atat_ray.utils.errors import unknown

Kind = TypeVar("Kind")


class Registry(Mapping[str, Kind]):
    """Map names to classes or functions, each imported when it is first looked up.

    Args:
        what: kind of thing that is named, for error messages.
        places: by name, ``"package.module:Attribute"``.

    >>> numbers = Registry("number", {"fraction": "fractions:Fraction"})
    >>> numbers["fraction"](1, 2)
    Fraction(1, 2)
    >>> numbers.find("fractoin")
    Traceback (most recent call last):
        ...
    ValueError: unknown number 'fractoin' (did you mean 'fraction'?); known: fraction
    """

    def __init__(self, what: str, places: Mapping[str, str]) -> None:
        self.what = what
        self.places = dict(places)
        self.found: dict[str, Kind] = {}

    def __getitem__(self, name: str) -> Kind:
        if name not in self.found:
            module, _, attribute = self.places[name].partition(":")
            self.found[name] = getattr(import_module(module), attribute)
        return self.found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def find(self, name: str) -> Kind:
        """Look up a name.

        Raises:
            ValueError: the name is unknown; the message has the nearest name and all names.
        """
        if name not in self.places:
            raise unknown(self.what, name, self.places)
        return self[name]

    def name_of(self, kind: Kind) -> str:
        """Return the name of a registered class or function."""
        return next(name for name in self if self[name] is kind)
