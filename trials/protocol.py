"""What a protocol may say: the trial as data, checked before anything runs.

Settings of the numerics are the dataclasses of ``atat_ray`` themselves, so that a key has one
definition; this module adds the design (blocks, arms, contrasts) and the reading of files.
"""

import dataclasses
import hashlib
import json
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    model_validator,
)

from analysis.schema import INVERSION_OUTCOMES, inversion_column
from atat_ray.assets import BlockSpec
from atat_ray.data import Data
from atat_ray.defenses import DEFENSES
from atat_ray.evaluation import Evaluation
from atat_ray.inversion.ppa import Ppa
from atat_ray.models import ARCHITECTURES
from atat_ray.names import unknown
from atat_ray.priors import PRIORS
from atat_ray.robustness import Robustness
from atat_ray.training import Training
from atat_ray.unit import UnitSpec


def named(kinds: dict[str, Any], key: str) -> Any:
    """Make the type of ``{key: NAME, **options}``, where NAME stands for a dataclass of options."""
    names = {kind: name for name, kind in kinds.items()}

    def tag(value: Any) -> str | None:
        if isinstance(value, dict):
            return value.get(key) if isinstance(value.get(key), str) else None
        return names.get(type(value))

    def drop_key(value: Any) -> Any:
        return {k: v for k, v in value.items() if k != key} if isinstance(value, dict) else value

    members = tuple(
        Annotated[kind, BeforeValidator(drop_key), Tag(name)] for name, kind in kinds.items()
    )
    union: Any = members[0]
    for member in members[1:]:
        union = union | member

    def write(value: Any) -> dict[str, Any]:
        return {key: names[type(value)], **dataclasses.asdict(value)}

    return Annotated[union, Discriminator(tag), PlainSerializer(write)]


class Strict(BaseModel):
    """A part of a protocol: unknown keys are refused and nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Block(Strict):
    """Units that share their people, their evaluation models and their priors."""

    split: int = Field(ge=0, description="number of the identity split")


class Contrast(Strict):
    """A comparison that is stated before the trial."""

    arm: str
    against: str


class Inversion(Strict):
    """An inversion attack: what it searches, and with which budget."""

    prior: named(PRIORS, "name")  # type: ignore[valid-type]
    ppa: Ppa


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class Protocol(Strict):
    """A randomised trial of training runs.

    Units are allocated to arms at random within each block, ``units_per_arm`` to each. The first
    contrast is the primary one.
    """

    name: Name
    question: str
    seed: int = Field(ge=0, description="everything random is derived from it, the allocation too")
    blocks: dict[Name, Block] = Field(min_length=1)
    units_per_arm: int = Field(ge=1, description="in each block")
    arms: dict[Name, named(DEFENSES, "defense")] = Field(min_length=2)  # type: ignore[valid-type]
    outcome: str
    contrasts: dict[Name, Contrast] = Field(min_length=1)
    alpha: float = Field(gt=0, lt=1)
    data: Data
    architecture: str
    training: Training
    evaluation: Evaluation
    inversions: dict[Name, Inversion] = Field(min_length=1)
    robustness: Robustness
    workers: int = Field(default=1, ge=1, description="processes that share a unit's training")

    @model_validator(mode="after")
    def check_names(self) -> "Protocol":
        """Refuse names that nothing in the protocol has."""
        if self.architecture not in ARCHITECTURES:
            raise unknown("architecture", self.architecture, ARCHITECTURES)
        for contrast in self.contrasts.values():
            for arm in (contrast.arm, contrast.against):
                if arm not in self.arms:
                    raise unknown("arm in contrasts", arm, self.arms)
            if contrast.arm == contrast.against:
                raise ValueError(f"a contrast needs two arms, got {contrast.arm!r} against itself")
        outcomes = [
            inversion_column(i, name) for i in self.inversions for name in INVERSION_OUTCOMES
        ]
        if self.outcome not in outcomes:
            raise unknown("outcome", self.outcome, outcomes)
        if self.training.batch_size % self.workers:
            raise ValueError(
                f"training.batch_size must be a multiple of workers, got "
                f"{self.training.batch_size} for {self.workers} workers"
            )
        return self

    def canonical(self) -> dict[str, Any]:
        """Write the protocol with every default filled in, as JSON holds it."""
        return json.loads(json.dumps(self.model_dump()))

    def sha256(self) -> str:
        """Hash the canonical JSON: sorted keys, no spaces, UTF-8."""
        return hashlib.sha256(canonical_json(self.canonical())).hexdigest()

    def block_spec(self, block: str) -> BlockSpec:
        """Specify what a block has once: its people, evaluation models and priors."""
        return BlockSpec(
            name=block,
            seed=self.seed,
            data=self.data,
            split=self.blocks[block].split,
            evaluation=self.evaluation,
            priors={name: inversion.prior for name, inversion in self.inversions.items()},
        )

    def unit_spec(self, unit_id: str, block: str, arm: str) -> UnitSpec:
        """Specify a unit: its seeds come from ``unit_id``, its defense from the arm."""
        return UnitSpec(
            unit_id=unit_id,
            block=self.block_spec(block),
            architecture=self.architecture,
            defense=self.arms[arm],
            training=self.training,
            inversions={name: inversion.ppa for name, inversion in self.inversions.items()},
            robustness=self.robustness,
            workers=self.workers,
        )


def canonical_json(value: Any) -> bytes:
    """Write JSON in the one form that is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
