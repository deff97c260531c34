"""What the file of a sweep may say: the settings of a trial, one arm, and how its options vary.

A sweep explores. Nothing in it is randomised, so it has no arms to compare and no p-values; what it
finds is tried in a trial on other people.
"""

import dataclasses
import typing
from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from atat_ray.defenses import DEFENSES
from atat_ray.training.interface import Defense
from atat_ray.utils.errors import at, placed, unknown
from trials.config.named_kinds import named
from trials.config.optional_keys import Count, Strict
from trials.config.protocol import SampleUnit, Settings

MOST_POINTS = 10_000
Number = int | float
Options = dict[str, Number]
DEFENSE: TypeAdapter[Any] = TypeAdapter(named(DEFENSES, "defense"))


class Space(Strict):
    """What an option may be: one of some levels, or anything from ``low`` to ``high``.

    With ``log`` each doubling is as likely as any other.
    """

    levels: list[Number] | None = Field(default=None, min_length=1)
    low: Number | None = None
    high: Number | None = None
    log: bool = False

    @field_validator("levels", "low", "high", mode="before")
    @classmethod
    def check_numbers(cls, value: Any) -> Any:
        """Refuse what is no number, or no list of numbers where there are levels."""
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, bool) or not isinstance(one, int | float | None):
                raise ValueError(f"only numbers can be searched over, got {one!r}")
        return value

    @model_validator(mode="after")
    def check_form(self) -> Self:
        """Refuse a space that is neither of levels nor a range, or is empty."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        given = [name for name, value in values.items() if not (value is None or value is False)]
        if self.levels is not None:
            if given != ["levels"]:
                raise ValueError(f"levels stand alone, got {', '.join(given)}")
            if len(set(self.levels)) < len(self.levels):
                raise ValueError(f"levels must be different values, got {self.levels}")
            return self
        if self.low is None or self.high is None:
            raise ValueError(
                f"needs either levels: [...] or both low and high, got {', '.join(given) or '{}'}"
            )
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low:g} and {self.high:g}")
        if self.log and not self.low > 0:
            raise ValueError(f"log needs a low above 0, got {self.low:g}")
        return self

    @model_serializer
    def write(self) -> dict[str, Any]:
        """Write the levels, or the range."""
        if self.levels is not None:
            return {"levels": self.levels}
        return {"low": self.low, "high": self.high, "log": self.log}

    def ends(self) -> list[Number]:
        """List the levels, or both ends of the range."""
        if self.levels is not None:
            return self.levels
        assert self.low is not None, "a space has levels or a range"
        assert self.high is not None, "a space has levels or a range"
        return [self.low, self.high]

    def values(self, *, whole: bool) -> list[Number] | None:
        """List every value, those of a range if only whole numbers count; None if infinite."""
        if self.levels is not None or not whole:
            return self.levels
        low, high = self.ends()
        return list(range(int(low), int(high) + 1))


class Search(Strict):
    """How options vary; each method is a class below."""

    options: dict[str, Space] = Field(min_length=1)


class Grid(Search):
    """Every combination of the levels."""

    method: Literal["grid"]

    @model_validator(mode="after")
    def check_levels(self) -> Self:
        """Refuse ranges, which have no levels."""
        for name, space in self.options.items():
            if space.levels is None:
                raise ValueError(f"a grid needs levels: [...], {name} has a range")
        return self


class Drawn(Search):
    """A search that proposes one point after the other."""

    points: Count = Field(le=MOST_POINTS, description="how many are tried")


class Learning(Drawn):
    """A search that learns from the points that are finished."""

    startup: Count = Field(default=10, description="points drawn before it begins to learn")

    @model_validator(mode="after")
    def check_startup(self) -> Self:
        """Refuse a search that ends before it learns."""
        if self.points <= self.startup:
            raise ValueError(
                f"points must be above startup, or the search never learns; got "
                f"{self.points} and {self.startup}"
            )
        return self


class Tpe(Learning):
    """Optuna's TPE: the least leakage at a clean accuracy of at least ``clean_acc_at_least``."""

    method: Literal["tpe"]
    clean_acc_at_least: float = Field(ge=0, le=1)


class Pareto(Learning):
    """Optuna's multi-objective TPE: little leakage and high clean accuracy, whatever the price."""

    method: Literal["pareto"]


class Asha(Drawn):
    """Points drawn at random; ASHA stops the training of those whose clean accuracy is low.

    After ``grace`` epochs, and whenever their number has grown ``reduction``-fold, only the best
    of ``reduction`` points that got there go on. Only points that train to their end are attacked.
    """

    method: Literal["asha"]
    grace: Count = Field(description="epochs before the first decision")
    reduction: float = Field(default=3, gt=1)


METHODS = {"grid": Grid, "tpe": Tpe, "pareto": Pareto, "asha": Asha}


class SweepSettings(Settings):
    """A sweep: the settings of a trial on one block, an arm, and a search over its options.

    All points have the same initial weights and see the same images in the same order. ``outcome``
    is the leakage that is weighed against clean accuracy.
    """

    arm: dict[str, Any] = Field(description="a defense, without the options that are searched")
    search: Annotated[Grid | Tpe | Pareto | Asha, Field(discriminator="method")]

    @model_validator(mode="after")
    def check_search(self) -> Self:
        """Refuse what no point could run with."""
        if len(self.blocks) != 1:
            raise at(("blocks",), f"a sweep runs on one block, got {', '.join(self.blocks)}")
        if not self.outcome.endswith("att_acc_1"):
            raise at(("outcome",), f"the outcome of a sweep is an att_acc_1, got {self.outcome}")
        with placed("arm", "defense"):
            kind = DEFENSES.find(str(self.arm.get("defense")))
        known = typing.get_type_hints(kind)
        fields = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
        numeric = [name for name in fields if {int, float} & kinds_of(known[name])]
        for name in self.search.options:
            place = ("search", "options", name)
            if name not in numeric:
                raise at(place, unknown(f"numeric option of {self.arm['defense']}", name, numeric))
            if name in self.arm:
                raise at(place, f"{name} stands in arm and in search.options; leave it in one")
        size = self.size()
        if isinstance(self.search, Grid):
            if size is not None and size > MOST_POINTS:
                raise at(
                    ("search", "options"),
                    f"the grid has {size:,} points, at most {MOST_POINTS:,} are allowed",
                )
        elif size is not None and self.search.points > size:
            raise at(
                ("search", "points"),
                f"search.points is {self.search.points}, but the options have only {size} "
                "combinations; use method: grid",
            )
        for ends in product(*(space.ends() for space in self.search.options.values())):
            self.defense(dict(zip(self.search.options, ends, strict=True)))
        if isinstance(self.search, Asha) and self.workers > 1:
            raise at(("workers",), f"method asha needs workers: 1, got {self.workers}")
        if isinstance(self.search, Asha) and self.search.grace >= self.training.epochs:
            raise at(
                ("search", "grace"),
                f"search.grace must be below training.epochs, got {self.search.grace} and "
                f"{self.training.epochs}",
            )
        return self

    def whole(self, option: str) -> bool:
        """Tell whether an option takes whole numbers only."""
        hints = typing.get_type_hints(DEFENSES.find(self.arm["defense"]))
        return float not in kinds_of(hints[option])

    def values(self) -> list[list[Number]] | None:
        """List the values of each option; None if one has infinitely many."""
        options = self.search.options.items()
        values = [space.values(whole=self.whole(name)) for name, space in options]
        return None if None in values else typing.cast(list[list[Number]], values)

    def size(self) -> int | None:
        """Count the combinations of the options; None if there is no end to them."""
        values = self.values()
        return None if values is None else prod(len(one) for one in values)

    def total(self) -> int:
        """Count the points that are tried."""
        if isinstance(self.search, Grid):
            return self.size() or 0
        return self.search.points

    def sample_units(self) -> Iterator[SampleUnit]:
        """Generate the points at the ends of the options' ranges."""
        (block,) = self.blocks
        options = self.search.options
        corners = list(product(*(space.ends() for space in options.values())))
        for corner in corners:
            point = dict(zip(options, corner, strict=True))
            name = " ".join(f"{option}={value:g}" for option, value in point.items())
            spec = self.specify("rehearsal", block, self.defense(point), seed_name=block)
            yield SampleUnit(name, spec, self.total() / len(corners))

    def defense(self, options: Options) -> Defense:
        """Give the arm the options of a point.

        Raises:
            ValueError: the defense refuses them.
        """
        try:
            return DEFENSE.validate_python({**self.arm, **options})
        except ValidationError as error:
            problems = error.errors()
            extra = [p for p in problems if p["type"] == "unexpected_keyword_argument"]
            problem = (extra or problems)[0]
            key = ".".join(str(part) for part in problem["loc"][1:])
            if extra:
                kind = DEFENSES.find(self.arm["defense"])
                fields = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
                known = ["defense", "preset", *fields]
                raise at(("arm", key), unknown("key of arm", key, known)) from None
            if problem["type"] == "missing":
                raise at(("arm",), f"arm.{key} is missing") from None
            message = problem["msg"].removeprefix("Value error, ")
            where = f"arm.{key}: " if key else ""
            given = ", ".join(f"{name}={value:g}" for name, value in options.items())
            about = key or message.split()[0]  # messages begin with the option that they are about
            place = ("search", "options", about) if about in options else ("arm", about)
            raise at(place, f"{where}{message} (with {given} of search.options)") from None


def kinds_of(hint: Any) -> set[Any]:
    """List the members of a union, or the type itself."""
    return set(typing.get_args(hint)) or {hint}
