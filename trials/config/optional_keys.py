"""Optional keys of a protocol: margins, doses, looks, matching, families, claims, bounds.

Each key adds an analysis to the report; ``bounds`` adds a measure of each unit as well. A key that
is not declared is left out of the protocol's JSON, so it does not enter the hash.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from analysis.schema.columns import robust_column
from analysis.schema.names import CLEAN_ACC, TRAIN_ACC
from atat_ray.unit.bounds_options import Bounds
from atat_ray.utils.errors import at, unknown
from trials.config.claim import Claim
from trials.config.parts import Count, Name, Part, Strict


class Looks(Part):
    """Planned interim looks, and the function that spends alpha over them."""

    blocks: list[Count] = Field(
        min_length=1,
        description="number of finished blocks (matched sets with design: pairs) at each look; "
        "the last look has all of them",
    )
    spending: Literal["obrien_fleming", "pocock"]


class Matching(Part):
    """Comparison of an arm with other arms at its clean accuracy.

    Attributes:
        arm: to compare.
        line: arms to which the line of leakage on clean accuracy is fitted.
    """

    arm: str
    line: list[str] = Field(min_length=1)


class Declarations(Strict):
    """The optional keys of a protocol."""

    margins: dict[str, Annotated[float, Field(gt=0, lt=1)]] | None = Field(
        default=None,
        description="by accuracy, the largest acceptable loss as a fraction, for non-inferiority "
        "and equivalence of the primary contrast",
    )
    doses: dict[str, float] | None = Field(
        default=None,
        description="dose of each arm of a dose-response analysis; three different doses or more",
    )
    looks: Looks | None = None
    matching: Matching | None = None
    families: dict[Name, list[str]] | None = Field(
        default=None, description="groups of arms for each of which a leakage model is fitted"
    )
    claims: dict[Name, Claim] | None = Field(
        default=None, description="sentences that the trial supports, contradicts or leaves open"
    )
    bounds: Bounds | None = Field(
        default=None,
        description="noise under which the image given to the target model is bounded",
    )

    def without_undeclared(self, content: dict[str, Any]) -> dict[str, Any]:
        """Remove the optional keys that are not declared from the JSON of a protocol."""
        return {
            key: value
            for key, value in content.items()
            if key not in Declarations.model_fields or value is not None
        }

    def check_declared(self, arms: list[str], epsilons: list[float]) -> None:
        """Refuse unknown arms and outcomes, and declarations without effect.

        Args:
            arms: of the protocol.
            epsilons: radii at which robust accuracy is measured.
        """
        accuracies = accuracies_at(epsilons)
        for outcome in self.margins or {}:
            if outcome not in accuracies:
                place = ("margins", outcome)
                raise at(place, unknown("accuracy in margins", outcome, accuracies))
        self.check_arms(arms)
        if self.doses is not None and len(set(self.doses.values())) < 3:
            given = ", ".join(f"{arm}: {dose:g}" for arm, dose in self.doses.items())
            raise at(("doses",), f"doses needs at least 3 different doses, got {given or 'none'}")
        if self.matching is not None and self.matching.arm in self.matching.line:
            raise at(
                ("matching", "line"),
                f"matching.line must not contain matching.arm, got {self.matching.arm!r} in both",
            )
        self.check_families()

    def check_families(self) -> None:
        """Refuse an arm in two families."""
        family_of: dict[str, str] = {}
        for family, members in (self.families or {}).items():
            for arm in members:
                if arm in family_of:
                    raise at(
                        ("families", family),
                        f"an arm may be in one family only, {arm!r} is in {family_of[arm]} and "
                        f"{family}",
                    )
                family_of[arm] = family

    def check_arms(self, arms: list[str]) -> None:
        """Refuse arms that the protocol does not have."""
        named = {
            "doses": list(self.doses or {}),
            "matching": [self.matching.arm, *self.matching.line] if self.matching else [],
            "families": [arm for members in (self.families or {}).values() for arm in members],
        }
        for key, given in named.items():
            for arm in given:
                if arm not in arms:
                    raise at((key, arm), unknown(f"arm in {key}", arm, arms))


def accuracies_at(epsilons: list[float]) -> list[str]:
    """List the accuracies of a unit whose robust accuracy is measured at these radii."""
    return [CLEAN_ACC, TRAIN_ACC, *map(robust_column, epsilons)]
