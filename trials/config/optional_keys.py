"""Optional keys of a protocol: margins, doses, looks, matching, families.

Each adds an analysis to the report. A key that is not declared is not in the protocol's JSON.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from analysis.schema.columns import robust_column
from analysis.schema.names import CLEAN_ACC, TRAIN_ACC
from atat_ray.utils.errors import at, unknown


class Strict(BaseModel):
    """Frozen part of a protocol that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]
Count = Annotated[
    int, Field(ge=1, le=100_000)
]  # the limit keeps a typing error from filling the memory


class Part(Strict):
    """Optional part of a protocol, whose error for an unknown key lists the known ones."""

    @model_validator(mode="before")
    @classmethod
    def check_keys(cls, value: Any) -> Any:
        """Refuse an unknown key; the error lists the known keys."""
        for key in value if isinstance(value, dict) else ():
            if key not in cls.model_fields:
                raise unknown("key", str(key), cls.model_fields)
        return value


class Looks(Part):
    """Planned interim looks, and the spending of the error over them."""

    blocks: list[Count] = Field(
        min_length=1,
        description="number of blocks (matched sets with design: pairs) that are finished at each "
        "look; the last look is at all of them",
    )
    spending: Literal["obrien_fleming", "pocock"]


class Matching(Part):
    """An arm, and the arms that give the line of leakage on clean accuracy to compare it with."""

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
        default=None, description="groups of arms whose leakage models are fitted separately"
    )

    def without_undeclared(self, content: dict[str, Any]) -> dict[str, Any]:
        """Remove the optional keys that are not declared from the JSON of a protocol."""
        return {
            key: value
            for key, value in content.items()
            if key not in Declarations.model_fields or value is not None
        }

    def check_declared(self, arms: list[str], epsilons: list[float]) -> None:
        """Refuse arms and outcomes that the trial does not have, and declarations without effect.

        Args:
            arms: of the protocol.
            epsilons: radii at which robust accuracy is measured.
        """
        accuracies = [CLEAN_ACC, TRAIN_ACC, *map(robust_column, epsilons)]
        for outcome in self.margins or {}:
            if outcome not in accuracies:
                place = ("margins", outcome)
                raise at(place, unknown("accuracy in margins", outcome, accuracies))
        self.check_arms(arms)
        if self.doses is not None and len(set(self.doses.values())) < 3:
            given = ", ".join(f"{arm}: {dose:g}" for arm, dose in self.doses.items())
            raise at(
                ("doses",), f"doses needs three different doses or more, got {given or 'none'}"
            )
        if self.matching is not None and self.matching.arm in self.matching.line:
            raise at(
                ("matching", "line"),
                f"matching compares an arm with other arms; {self.matching.arm!r} is in its line",
            )
        family_of: dict[str, str] = {}
        for family, members in (self.families or {}).items():
            for arm in members:
                if arm in family_of:
                    raise at(
                        ("families", family),
                        f"an arm is in one of the families, {arm!r} is in {family_of[arm]} and "
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
