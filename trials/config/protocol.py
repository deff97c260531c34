"""Protocol of a randomised trial, validated before anything runs.

It adds the design to the settings: arms, contrasts, units, allocation.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from atat_ray.defenses import DEFENSES
from atat_ray.training.schedule import check_precision
from atat_ray.unit import UnitSpec
from atat_ray.utils.errors import at, placed, unknown
from trials.config.option_types import tagged_union
from trials.config.optional_keys import Declarations, accuracies_at
from trials.config.parts import Count, Name, Strict
from trials.config.settings import SampleUnit, Settings


class Contrast(Strict):
    """A comparison of two arms, declared before the trial."""

    arm: str
    against: str


def expand_levels(arms: Any) -> Any:
    """Replace each arm that has options with ``{levels: [...]}`` by one arm per combination.

    ``dose: {weight: {levels: [1, 2]}}`` gives ``dose-weight-1`` and ``dose-weight-2``.
    """
    if not isinstance(arms, dict):
        return arms
    expanded: dict[str, Any] = {}
    for name, arm in arms.items():
        factors = {
            key: value["levels"]
            for key, value in (arm.items() if isinstance(arm, dict) else ())
            if isinstance(value, dict) and isinstance(value.get("levels"), list)
        }
        for key, levels in factors.items():
            if len(arm[key]) > 1:
                given = ", ".join(arm[key])
                raise ValueError(f"{name}: {key} with levels takes no other key, got {given}")
            if not levels or any(levels.count(level) > 1 for level in levels):
                raise ValueError(f"{name}: levels of {key} must be different values, got {levels}")
        for levels in product(*factors.values()):
            options = dict(zip(factors, levels, strict=True))
            suffix = "".join(f"-{key}-{value}".lower() for key, value in options.items())
            full_name = f"{name}{suffix}"
            if full_name in expanded:
                raise ValueError(
                    f"two arms are named {full_name}, one of them generated from levels; rename one"
                )
            expanded[full_name] = {**arm, **options} if factors else arm
    return expanded


class Protocol(Settings, Declarations):
    """A randomised trial of training runs.

    Units are allocated to arms at random within each block, ``units_per_arm`` to each arm. A single
    block is a completely randomised design. With ``design: pairs`` a block is divided into
    ``units_per_arm`` matched sets of one unit per arm. The units of a set have the same initial
    weights and see the same images in the same order, and arms are allocated within the set.

    The contrast named ``primary`` gives the verdict. A contrast named ``mechanism``, of the same
    arm against a second reference, is reported beside it. :mod:`trials.config.optional_keys`
    defines the optional declarations.
    """

    design: Literal["blocked", "pairs"] = "blocked"
    units_per_arm: Count | dict[Name, Count] = Field(
        description="number of units in each block; one number, or one for each arm"
    )
    nonce: Literal["seed", "secret"] = Field(
        default="seed",
        description="source of the allocation: the seed, so that anyone can repeat the draw, or a "
        "random secret, of which the record has only the hash until the last unit has ended",
    )
    arms: dict[Name, tagged_union(DEFENSES, "defense")] = Field(  # type: ignore[valid-type]
        min_length=2
    )
    contrasts: dict[Name, Contrast] = Field(min_length=1)
    alpha: float = Field(gt=0, lt=1)

    @field_validator("arms", mode="before")
    @classmethod
    def expand(cls, arms: Any) -> Any:
        """Expand factorial arms before they are checked."""
        return expand_levels(arms)

    @model_validator(mode="after")
    def check_names(self) -> "Protocol":
        """Refuse arms, contrasts and looks that the protocol does not define or cannot have."""
        self.check_counts()
        self.check_contrasts()
        for name, defense in self.arms.items():
            with placed("arms", name):
                check_precision(self.training, defense)
        epsilons = list(self.robustness.epsilons)
        self.check_declared(list(self.arms), epsilons)
        outcomes = [*self.inversion_outcomes(), *accuracies_at(epsilons)]
        for name, claim in (self.claims or {}).items():
            with placed("claims", name):
                claim.check_names(list(self.arms), list(self.contrasts), outcomes)
        if self.looks is not None:
            from analysis.inference.group_sequential import planned_looks

            with placed("looks"):
                planned_looks(self.canonical())
        return self

    def check_contrasts(self) -> None:
        """Refuse contrasts without a primary one, of unknown arms, or of an arm with itself."""
        if "primary" not in self.contrasts:
            raise at(
                ("contrasts",),
                f"contrasts needs one named primary, which gives the verdict; got "
                f"{', '.join(self.contrasts)}",
            )
        for name, contrast in self.contrasts.items():
            for key, arm in (("arm", contrast.arm), ("against", contrast.against)):
                if arm not in self.arms:
                    place = ("contrasts", name, key)
                    raise at(place, unknown("arm in contrasts", arm, self.arms))
            if contrast.arm == contrast.against:
                place = ("contrasts", name)
                raise at(place, f"a contrast needs two arms, got {contrast.arm!r} against itself")

    def check_counts(self) -> None:
        """Refuse ``units_per_arm`` that does not fit the arms or the design."""
        if isinstance(self.units_per_arm, int):
            return
        for arm in self.units_per_arm:
            if arm not in self.arms:
                raise at(("units_per_arm", arm), unknown("arm in units_per_arm", arm, self.arms))
        missing = [arm for arm in self.arms if arm not in self.units_per_arm]
        if missing:
            raise at(("units_per_arm",), f"units_per_arm has no number for {', '.join(missing)}")
        if self.design == "pairs":
            raise at(
                ("units_per_arm",),
                "design: pairs needs one number in units_per_arm, got one for each arm",
            )

    def units_of(self, arm: str) -> int:
        """Count the units of an arm in each block."""
        if isinstance(self.units_per_arm, int):
            return self.units_per_arm
        return self.units_per_arm[arm]

    def canonical(self) -> dict[str, Any]:
        """Return the protocol with its defaults filled in, without undeclared optional keys."""
        return self.without_undeclared(super().canonical())

    def sample_units(self) -> Iterator[SampleUnit]:
        """Generate one unit of every arm in every block."""
        for block in self.blocks:
            for arm in self.arms:
                spec = self.unit_spec("rehearsal", block, arm)
                yield SampleUnit(f"{arm} in {block}", spec, self.units_of(arm))

    def unit_spec(self, unit_id: str, block: str, arm: str, *, seed_name: str = "") -> UnitSpec:
        """Specify a unit of an arm; its seeds derive from ``seed_name``, or else ``unit_id``."""
        spec = self.specify(unit_id, block, self.arms[arm], seed_name=seed_name or unit_id)
        return replace(spec, bounds=self.bounds)
