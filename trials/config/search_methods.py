"""Search methods of a sweep, and the values that an option may take in each."""

from typing import Any, Literal, Self

from pydantic import (
    Field,
    field_validator,
    model_serializer,
    model_validator,
)

from trials.config.parts import Count, Strict

MOST_POINTS = 10_000
Number = int | float
Options = dict[str, Number]


class Space(Strict):
    """Values that an option may take: one of ``levels``, or a number from ``low`` to ``high``.

    With ``log`` a range is sampled uniformly on a logarithmic scale.
    """

    levels: list[Number] | None = Field(default=None, min_length=1)
    low: Number | None = None
    high: Number | None = None
    log: bool = False

    @field_validator("levels", "low", "high", mode="before")
    @classmethod
    def check_numbers(cls, value: Any) -> Any:
        """Refuse values that are not numbers."""
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, bool) or not isinstance(number, int | float | None):
                raise ValueError(f"values of a search must be numbers, got {number!r}")
        return value

    @model_validator(mode="after")
    def check_form(self) -> Self:
        """Refuse a space without exactly one of levels and range, and an empty one."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        given = [name for name, value in values.items() if not (value is None or value is False)]
        if self.levels is not None:
            if given != ["levels"]:
                raise ValueError(f"levels take no other key, got {', '.join(given)}")
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
        """Return the levels or the range as JSON types."""
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

    def values(self, *, integers: bool) -> list[Number] | None:
        """List all values; None if there are infinitely many.

        Args:
            integers: a range contains whole numbers only.
        """
        if self.levels is not None or not integers:
            return self.levels
        low, high = self.ends()
        return list(range(int(low), int(high) + 1))


class Search(Strict):
    """Search over options of a defense; each method is a subclass."""

    options: dict[str, Space] = Field(min_length=1)


class Grid(Search):
    """Try every combination of the levels."""

    method: Literal["grid"]

    @model_validator(mode="after")
    def check_levels(self) -> Self:
        """Refuse ranges."""
        for name, space in self.options.items():
            if space.levels is None:
                raise ValueError(f"a grid needs levels: [...], {name} has a range")
        return self


class Sequential(Search):
    """Search that proposes one point at a time."""

    points: Count = Field(le=MOST_POINTS, description="number of points to try")


class Adaptive(Sequential):
    """Search that learns from finished points."""

    startup: Count = Field(default=10, description="points drawn at random before it learns")

    @model_validator(mode="after")
    def check_startup(self) -> Self:
        """Refuse a search that ends before it learns."""
        if self.points <= self.startup:
            raise ValueError(
                f"points must be above startup, or the search never learns; got "
                f"{self.points} and {self.startup}"
            )
        return self


class Tpe(Adaptive):
    """Minimise leakage at a clean accuracy of ``clean_acc_at_least`` or more, by Optuna's TPE."""

    method: Literal["tpe"]
    clean_acc_at_least: float = Field(ge=0, le=1)


class Pareto(Adaptive):
    """Minimise leakage and maximise clean accuracy, by Optuna's multi-objective TPE."""

    method: Literal["pareto"]


class Asha(Sequential):
    """Draw points at random and let ASHA stop trainings whose clean accuracy is low.

    ASHA decides after ``grace`` epochs, and again whenever the number of epochs has grown
    ``reduction``-fold. The best 1 / ``reduction`` of the points that have reached a decision
    continue. Only points that train to the last epoch are attacked.
    """

    method: Literal["asha"]
    grace: Count = Field(description="epochs before the first decision")
    reduction: float = Field(default=3, gt=1)


METHODS = {"grid": Grid, "tpe": Tpe, "pareto": Pareto, "asha": Asha}
