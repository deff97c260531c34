"""Settings of a sweep: those of a trial on one block, one arm, and a search over its options.

A sweep explores. Nothing in it is randomised, so there are no arms to compare and no p-values. A
trial on other people must confirm what a sweep finds.
"""

import dataclasses
import typing
from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Annotated, Any, Self

from pydantic import (
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from atat_ray.defenses import DEFENSES
from atat_ray.training.interface import Defense
from atat_ray.utils.errors import at, placed, unknown
from trials.config.option_types import tagged_union
from trials.config.search_methods import (
    MOST_POINTS,
    Asha,
    Grid,
    Number,
    Options,
    Pareto,
    Tpe,
)
from trials.config.settings import SampleUnit, Settings

DEFENSE: TypeAdapter[Any] = TypeAdapter(tagged_union(DEFENSES, "defense"))


class SweepSettings(Settings):
    """A sweep over options of one defense, on one block.

    All points have the same initial weights and see the same images in the same order. ``outcome``
    is the leakage, which is compared with clean accuracy.
    """

    arm: dict[str, Any] = Field(description="a defense, without the options of the search")
    search: Annotated[Grid | Tpe | Pareto | Asha, Field(discriminator="method")]

    @model_validator(mode="after")
    def check_search(self) -> Self:
        """Refuse blocks, outcomes, options and searches with which no point could run."""
        if len(self.blocks) != 1:
            raise at(("blocks",), f"a sweep runs on one block, got {', '.join(self.blocks)}")
        if not self.outcome.endswith("att_acc_1"):
            raise at(("outcome",), f"the outcome of a sweep is an att_acc_1, got {self.outcome}")
        self.check_options()
        self.check_size()
        for point in self.corners():
            self.defense(point)
        if isinstance(self.search, Asha) and self.workers > 1:
            raise at(("workers",), f"method asha needs workers: 1, got {self.workers}")
        if isinstance(self.search, Asha) and self.search.grace >= self.training.epochs:
            raise at(
                ("search", "grace"),
                f"search.grace must be below training.epochs, got {self.search.grace} and "
                f"{self.training.epochs}",
            )
        return self

    def check_options(self) -> None:
        """Refuse options that the defense lacks, that are not numeric, or that the arm sets."""
        with placed("arm", "defense"):
            kind = DEFENSES.find(str(self.arm.get("defense")))
        hints = typing.get_type_hints(kind)
        numeric = [name for name in option_names(kind) if {int, float} & types_in(hints[name])]
        for name in self.search.options:
            place = ("search", "options", name)
            if name not in numeric:
                raise at(place, unknown(f"numeric option of {self.arm['defense']}", name, numeric))
            if name in self.arm:
                raise at(place, f"{name} is given in arm and in search.options; remove one of them")

    def check_size(self) -> None:
        """Refuse a grid that is too large, and more points than there are combinations."""
        size = self.size()
        if isinstance(self.search, Grid):
            if size is not None and size > MOST_POINTS:
                raise at(
                    ("search", "options"),
                    f"the grid has {size:,} points, at most {MOST_POINTS:,} are allowed; give "
                    "fewer levels, or use another method",
                )
        elif size is not None and self.search.points > size:
            raise at(
                ("search", "points"),
                f"search.points is {self.search.points}, but the options have only {size} "
                "combinations; use method: grid",
            )

    def takes_integers(self, option: str) -> bool:
        """Tell whether an option takes whole numbers only."""
        hints = typing.get_type_hints(DEFENSES.find(self.arm["defense"]))
        return float not in types_in(hints[option])

    def values(self) -> list[list[Number]] | None:
        """List the values of each option; None if one has infinitely many."""
        options = self.search.options.items()
        values = [space.values(integers=self.takes_integers(name)) for name, space in options]
        return None if None in values else typing.cast(list[list[Number]], values)

    def size(self) -> int | None:
        """Count the combinations of the options; None if there are infinitely many."""
        values = self.values()
        return None if values is None else prod(map(len, values))

    def total(self) -> int:
        """Count the points to try."""
        if isinstance(self.search, Grid):
            return self.size() or 0
        return self.search.points

    def corners(self) -> list[Options]:
        """List the combinations of the levels, or of the ends of the ranges, of all options."""
        options = self.search.options
        ends = product(*(space.ends() for space in options.values()))
        return [dict(zip(options, corner, strict=True)) for corner in ends]

    def sample_units(self) -> Iterator[SampleUnit]:
        """Generate the points at the corners of the search."""
        (block,) = self.blocks
        corners = self.corners()
        for point in corners:
            name = " ".join(f"{option}={value:g}" for option, value in point.items())
            spec = self.specify("rehearsal", block, self.defense(point), seed_name=block)
            yield SampleUnit(name, spec, self.total() / len(corners))

    def defense(self, options: Options) -> Defense:
        """Build the defense of a point: the arm with these options.

        Raises:
            ValueError: the defense refuses them; the error carries its location in the file.
        """
        try:
            return DEFENSE.validate_python({**self.arm, **options})
        except ValidationError as error:
            raise self.locate(error, options) from None

    def locate(self, error: ValidationError, options: Options) -> ValueError:
        """Turn the validation error of a defense into one that is located in the file."""
        problems = error.errors()
        extra = [p for p in problems if p["type"] == "unexpected_keyword_argument"]
        problem = (extra or problems)[0]
        key = ".".join(str(part) for part in problem["loc"][1:])
        if extra:
            known = ["defense", "preset", *option_names(DEFENSES.find(self.arm["defense"]))]
            return at(("arm", key), unknown("key of arm", key, known))
        if problem["type"] == "missing":
            return at(("arm",), f"arm.{key} is missing")
        message = problem["msg"].removeprefix("Value error, ")
        prefix = f"arm.{key}: " if key else ""
        given = ", ".join(f"{name}={value:g}" for name, value in options.items())
        option = key or message.split()[0]  # messages begin with the option that they are about
        place = ("search", "options", option) if option in options else ("arm", option)
        return at(place, f"{prefix}{message} (with {given} of search.options)")


def option_names(kind: Any) -> list[str]:
    """List the options of a defense class."""
    return [field.name for field in dataclasses.fields(kind)]


def types_in(hint: Any) -> set[Any]:
    """List the members of a union, or the type itself."""
    return set(typing.get_args(hint)) or {hint}
