"""Optional key ``claims`` of a protocol: sentences that a trial supports, contradicts or leaves.

:mod:`analysis.claims` estimates the estimand and decides by the margin.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from atat_ray.utils.errors import at, unknown
from trials.config.parts import Name, Part

Fraction = Annotated[float, Field(gt=0, lt=1)]


class OnOutcome(Part):
    """A registered contrast on an outcome.

    Attributes:
        contrast: name of a contrast of the protocol.
        outcome: column of the record; the protocol's outcome if None.
    """

    contrast: str = "primary"
    outcome: str | None = None


class Matched(Part):
    """Two defenses in several doses, compared at equal loss of clean accuracy.

    Attributes:
        curve, against: the arms of each defense, in any order.
        control: arm from which the loss is counted; both curves begin there.
        loss: of clean accuracy, as a fraction.
        outcome: column of the record; the protocol's outcome if None.
    """

    curve: list[str] = Field(min_length=1)
    against: list[str] = Field(min_length=1)
    control: str
    loss: Fraction
    outcome: str | None = None


class Ratio(Part):
    """Ratio of two effects."""

    numerator: OnOutcome
    denominator: OnOutcome


class Slope(Part):
    """Slope of the outcome on an accuracy over the units of many arms.

    Attributes:
        of: accuracy whose slope is estimated.
        beside: accuracies that are held fixed.
        arms: that are used; all if None.
        outcome: column of the record; the protocol's outcome if None.
    """

    of: str
    beside: list[str] = []
    arms: list[str] | None = None
    outcome: str | None = None


class Estimand(Part):
    """Estimand of a claim: exactly one of these kinds."""

    contrast: OnOutcome | None = None
    matched: Matched | None = None
    ratio: Ratio | None = None
    slope: Slope | None = None

    @model_validator(mode="after")
    def check_one(self) -> "Estimand":
        """Refuse none, and more than one."""
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"needs exactly one of {', '.join(type(self).model_fields)}; got "
                f"{' and '.join(given) or 'none'}"
            )
        return self


class Claim(Part):
    """A claim about the arms of a protocol, and the margin by which it is decided.

    Attributes:
        sentence: the claim.
        paper: what the paper found.
        where: the claim's place in the paper.
        estimand: what is estimated.
        direction: side of the margin on which the claim is supported.
        margin: in the unit of the record: a fraction for accuracies and AttAcc. Positive for
            ``within``.
        truths: means of outcomes by arm that ``atat plan`` assumes, by a name for the assumption.
        spread: standard deviation of each of these outcomes between units of an arm.
        correlation: of these outcomes between units of an arm.
    """

    sentence: str
    paper: str
    where: str
    estimand: Estimand
    direction: Literal["below", "above", "within"]
    margin: Annotated[float, Field(ge=-10, le=10)]
    truths: dict[Name, dict[str, dict[str, Fraction]]] | None = None
    spread: dict[str, Annotated[float, Field(gt=0, lt=0.5)]] | None = None
    correlation: Annotated[float, Field(gt=-1, lt=1)] = 0.0

    @model_validator(mode="after")
    def check_margin(self) -> "Claim":
        """Refuse a margin of no width, and truths without the spread of their outcomes."""
        if self.direction == "within" and not self.margin > 0:
            raise ValueError(f"direction: within needs a positive margin, got {self.margin:g}")
        given = {
            o for arms in (self.truths or {}).values() for means in arms.values() for o in means
        }
        missing = sorted(given - set(self.spread or {}))
        if missing:
            raise ValueError(f"truths need the spread of each outcome; {missing[0]} has none")
        return self

    def check_names(self, arms: list[str], contrasts: list[str], outcomes: list[str]) -> None:
        """Refuse arms, contrasts and outcomes that the protocol does not have."""
        allowed = {"arm": arms, "contrast": contrasts, "outcome": outcomes}
        for kind, place, name in [*self._named(), *self._assumed()]:
            if name not in allowed[kind]:
                raise at(place, unknown(f"{kind} in claim", name, allowed[kind]))
        for name, means in (self.truths or {}).items():
            missing = [arm for arm in self.estimand_arms(arms) if arm not in means]
            if missing:
                place = ("truths", name)
                raise at(place, f"the truth {name} has no means for the arm {missing[0]}")

    def estimand_arms(self, arms: list[str]) -> list[str]:
        """List the arms that the estimand names one by one; all arms for a slope without arms."""
        if self.estimand.slope is not None and self.estimand.slope.arms is None:
            return arms
        return [name for kind, _, name in self._named() if kind == "arm"]

    def _named(self) -> Iterator[tuple[str, tuple[str, ...], str]]:
        """Generate (kind, place in the claim, name) of everything that the estimand names."""
        for place, options in _nested(("estimand",), self.estimand.model_dump(exclude_none=True)):
            key = place[-1]
            kind = {"contrast": "contrast", "outcome": "outcome", "of": "outcome"}.get(key, "arm")
            for name in options if isinstance(options, list) else [options]:
                if isinstance(name, str):
                    yield ("outcome" if key == "beside" else kind), place, name

    def _assumed(self) -> Iterator[tuple[str, tuple[str, ...], str]]:
        for name, means in (self.truths or {}).items():
            for arm, outcomes in means.items():
                yield "arm", ("truths", name, arm), arm
                for outcome in outcomes:
                    yield "outcome", ("truths", name, arm, outcome), outcome
        for outcome in self.spread or {}:
            yield "outcome", ("spread", outcome), outcome


def _nested(place: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Generate the leaves of nested mappings with their places."""
    if not isinstance(value, dict):
        yield place, value
        return
    for key, inner in value.items():
        yield from _nested((*place, key), inner)
