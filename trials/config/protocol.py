"""Settings of a randomised trial, validated before anything runs.

Options of the numerics are the dataclasses of ``atat_ray`` themselves, so that each key has one
definition. This module adds the design: blocks, arms, contrasts.
"""

import hashlib
import json
from collections.abc import Iterator
from itertools import product
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, PlainSerializer, field_validator, model_validator

from analysis.schema.columns import inversion_column
from analysis.schema.names import EPOCH_PREFIX, INVERSION_OUTCOMES, ROBUST_PREFIX, SECONDS_PREFIX
from atat_ray.data import Data
from atat_ray.defenses import DEFENSES
from atat_ray.evaluation import Evaluation
from atat_ray.robustness import Robustness
from atat_ray.robustness.attack_sets import check_classes
from atat_ray.training import Training
from atat_ray.training.schedule import check_network, check_precision
from atat_ray.unit import BlockSpec, UnitSpec
from atat_ray.utils.errors import at, placed, unknown
from trials.config.option_types import Inversion, tagged_union, write_options
from trials.config.optional_keys import Count, Declarations, Name, Strict

DataOptions = Annotated[Data, PlainSerializer(write_options)]
TrainingOptions = Annotated[Training, PlainSerializer(write_options)]
EvaluationOptions = Annotated[Evaluation, PlainSerializer(write_options)]

# Columns of an inversion begin with its name; other columns of the record begin with these.
RESERVED = tuple(p.removesuffix("/") for p in (EPOCH_PREFIX, ROBUST_PREFIX, SECONDS_PREFIX))


class Block(Strict):
    """Units that are alike before treatment; they share people, evaluation models and priors.

    Blocks may differ in anything that treatment cannot change.
    """

    split: int = Field(
        ge=0, lt=2**63, description="number of the identity split, used as a seed of torch"
    )
    data: DataOptions | None = Field(default=None, description="overrides the protocol's data")
    architecture: str | None = Field(
        default=None, description="overrides the protocol's architecture"
    )
    node: str | None = Field(
        default=None, description="custom Ray resource of the nodes that may run its units"
    )


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


class SampleUnit(NamedTuple):
    """A unit that represents similar units, for rehearsals and estimates of hours.

    Attributes:
        name: shown to the user.
        spec: of the unit.
        units: number of units that it represents, itself included.
    """

    name: str
    spec: UnitSpec
    units: float


class Settings(Strict):
    """Settings that trials and sweeps share: data, training, inversion attacks, measures."""

    name: Name
    question: str
    seed: int = Field(ge=0, description="all randomness is derived from it, the allocation too")
    blocks: dict[Name, Block] = Field(min_length=1)
    outcome: str
    data: DataOptions
    architecture: str
    training: TrainingOptions
    evaluation: EvaluationOptions
    inversions: dict[Name, Inversion] = Field(min_length=1)
    robustness: Annotated[Robustness, PlainSerializer(write_options)]
    workers: int = Field(default=1, ge=1, description="processes that share a unit's training")
    gpu_share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="share of a GPU for a unit of one process; a quarter if None",
    )
    retries: int = Field(
        default=2, ge=0, description="how often a unit runs again after a lost process or node"
    )

    @model_validator(mode="after")
    def check_settings(self) -> Self:
        """Refuse networks, outcomes, workers and data that do not fit each other."""
        with placed("architecture"):
            check_network(self.architecture, self.training)
        for name, block in self.blocks.items():
            if block.architecture is not None:
                with placed("blocks", name, "architecture"):
                    check_network(block.architecture, self.training)
        self.check_outcome()
        if self.training.thresholds and self.workers > 1:
            raise at(("workers",), f"training.thresholds need workers: 1, got {self.workers}")
        if self.training.batch_size % self.workers:
            raise at(
                ("training", "batch_size"),
                f"training.batch_size must be a multiple of workers, got "
                f"{self.training.batch_size} for {self.workers} workers",
            )
        for name, block in self.blocks.items():
            if block.data is None:
                self.check_people(self.data, "data")
            else:
                self.check_people(block.data, "blocks", name, "data")
        return self

    def check_outcome(self) -> None:
        """Refuse reserved names of inversions, and an outcome that no inversion measures."""
        for name in self.inversions:
            if name in RESERVED:
                raise at(
                    ("inversions", name),
                    f"an inversion may not be named {name!r}: other columns of the record begin "
                    f"with {', '.join(RESERVED)}; choose another name, such as standard",
                )
        outcomes = [
            inversion_column(i, name) for i in self.inversions for name in INVERSION_OUTCOMES
        ]
        if self.outcome not in outcomes:
            raise at(("outcome",), unknown("outcome", self.outcome, outcomes))

    def check_people(self, data: Data, *place: str) -> None:
        """Refuse data with which a unit could be trained but not measured.

        Args:
            data: of a block.
            place: keys that lead to the data in the file.
        """
        if data.at_most is not None and data.at_most < data.num_private:
            raise at(
                (*place, "at_most"),
                f"{'.'.join(place)}.at_most must be at least num_private, so that each person has "
                f"an image, got {data.at_most} images of {data.num_private} people",
            )
        if self.robustness.epsilons:
            with placed(*place, "num_private"):
                check_classes(self.robustness.attacks, data.num_private)

    def canonical(self) -> dict[str, Any]:
        """Return the settings with every default filled in, as JSON types."""
        return json.loads(json.dumps(self.model_dump()))

    def sha256(self) -> str:
        """Hash the canonical JSON: sorted keys, no spaces, UTF-8."""
        return hashlib.sha256(canonical_json(self.canonical())).hexdigest()

    def sample_units(self) -> Iterator[SampleUnit]:
        """Generate units that represent all units."""
        raise NotImplementedError

    def block_spec(self, block: str) -> BlockSpec:
        """Specify what the units of a block share: people, evaluation models and priors."""
        return BlockSpec(
            name=block,
            seed=self.seed,
            data=self.blocks[block].data or self.data,
            split=self.blocks[block].split,
            evaluation=self.evaluation,
            priors={name: inversion.prior for name, inversion in self.inversions.items()},
        )

    def specify(self, unit_id: str, block: str, defense: Any, *, seed_name: str) -> UnitSpec:
        """Specify a unit that is trained with a defense; its seeds derive from ``seed_name``."""
        return UnitSpec(
            unit_id=unit_id,
            seed_name=seed_name,
            block=self.block_spec(block),
            architecture=self.blocks[block].architecture or self.architecture,
            defense=defense,
            training=self.training,
            inversions={name: inversion.attack for name, inversion in self.inversions.items()},
            robustness=self.robustness,
            workers=self.workers,
        )


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
        self.check_declared(list(self.arms), list(self.robustness.epsilons))
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
        return self.specify(unit_id, block, self.arms[arm], seed_name=seed_name or unit_id)


def canonical_json(value: Any) -> bytes:
    """Write the JSON that is hashed: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
