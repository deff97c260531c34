"""Settings that a trial and a sweep share: people, training, attacks, measurement.

Options of the numerics are the dataclasses of ``atat_ray`` themselves, so that each key has one
definition.
"""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple, Self

from pydantic import Field, PlainSerializer, model_validator

from analysis.schema.columns import inversion_column
from analysis.schema.names import (
    BOUNDS_PREFIX,
    EPOCH_PREFIX,
    INVERSION_OUTCOMES,
    ROBUST_PREFIX,
    SECONDS_PREFIX,
    STUDENT_OUTCOMES,
)
from atat_ray.data import Data
from atat_ray.evaluation import Evaluation
from atat_ray.inversion.smoothing import Smoothing
from atat_ray.inversion.students import Students
from atat_ray.models import check_architecture
from atat_ray.robustness import Robustness
from atat_ray.robustness.attack_sets import check_classes
from atat_ray.training import Training
from atat_ray.training.schedule import check_network
from atat_ray.unit import BlockSpec, UnitSpec
from atat_ray.utils.errors import at, placed, unknown
from trials.config.option_types import Inversion, write_options
from trials.config.parts import Name, Strict

DataOptions = Annotated[Data, PlainSerializer(write_options)]
TrainingOptions = Annotated[Training, PlainSerializer(write_options)]
EvaluationOptions = Annotated[Evaluation, PlainSerializer(write_options)]

# Columns of an inversion begin with its name; other columns of the record begin with these.
RESERVED = tuple(
    prefix.removesuffix("/")
    for prefix in (BOUNDS_PREFIX, EPOCH_PREFIX, ROBUST_PREFIX, SECONDS_PREFIX)
)


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
        for name, students in self.students().items():
            if students.architecture is not None:
                with placed("inversions", name, "students", "architecture"):
                    weights = self.training.weights
                    check_architecture(students.architecture, weights=weights, auxiliary=False)
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
        outcomes = self.inversion_outcomes()
        if self.outcome not in outcomes:
            raise at(("outcome",), unknown("outcome", self.outcome, outcomes))

    def inversion_outcomes(self) -> list[str]:
        """List the outcomes that the inversions measure."""
        return [
            inversion_column(i, name)
            for i in self.inversions
            for name in (*INVERSION_OUTCOMES, *(STUDENT_OUTCOMES if i in self.students() else ()))
        ]

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
        for name, inversion in self.inversions.items():
            with placed("inversions", name, inversion.attack_name, "attacked_classes"):
                inversion.attack.attacked(data.num_private)
        if self.robustness.epsilons:
            with placed(*place, "num_private"):
                check_classes(self.robustness.attacks, data.num_private)

    def students(self) -> dict[str, Students]:
        """Return the options of students, by name of the inversions that have some."""
        given = {name: inversion.students for name, inversion in self.inversions.items()}
        return {name: students for name, students in given.items() if students is not None}

    def smoothing(self) -> dict[str, Smoothing]:
        """Return the options of smoothing, by name of the inversions that have it."""
        given = {name: inversion.smoothing for name, inversion in self.inversions.items()}
        return {name: smoothing for name, smoothing in given.items() if smoothing is not None}

    def canonical(self) -> dict[str, Any]:
        """Return the settings with every default filled in, as JSON types."""
        return json.loads(json.dumps(self.model_dump()))

    def sha256(self) -> str:
        """Hash the canonical JSON: sorted keys, no spaces, UTF-8."""
        return hashlib.sha256(canonical_json(self.canonical())).hexdigest()

    @abstractmethod
    def sample_units(self) -> Iterator[SampleUnit]:
        """Generate units that represent all units."""

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
            students=self.students(),
            smoothing=self.smoothing(),
        )


def canonical_json(value: Any) -> bytes:
    """Write the JSON that is hashed: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def changed_keys(old: Any, new: Any, path: str = "") -> list[str]:
    """Name the keys in which two canonical settings differ, with both values.

    >>> changed_keys({"alpha": 0.05, "data": {"size": 64}}, {"alpha": 0.05, "data": {"size": 32}})
    ['data.size from 64 to 32']
    """
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [
            change
            for key in keys
            for change in changed_keys(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if old == new else [f"{path} from {old!r} to {new!r}"]
