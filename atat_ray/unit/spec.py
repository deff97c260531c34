"""Specifications of a unit and its block, and the hashes that identify their results."""

from dataclasses import dataclass, field, replace
from typing import Any

from atat_ray.data import Data
from atat_ray.evaluation import Evaluation
from atat_ray.inversion import Attack
from atat_ray.inversion.smoothing import Smoothing
from atat_ray.inversion.students import Students
from atat_ray.priors import PriorOptions
from atat_ray.robustness import Robustness
from atat_ray.training import Training
from atat_ray.training.interface import Defense
from atat_ray.unit.bounds_options import Bounds
from atat_ray.utils.hashing import specification_hash
from atat_ray.utils.seeding import derive_seed


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockSpec:
    """A block: the people of one split, with the evaluation models and priors of its units.

    Attributes:
        name: name of the block.
        seed: seed of the campaign.
        data: dataset.
        split: number of the identity split.
        evaluation: how the evaluation models are trained on the private training images.
        priors: options of the prior that each inversion attack searches, by name of the attack.
    """

    name: str
    seed: int
    data: Data
    split: int
    evaluation: Evaluation
    priors: dict[str, PriorOptions]

    def evaluation_hash(self) -> str:
        """Hash everything that the evaluation models depend on."""
        return specification_hash(
            "evaluation", self.name, self.seed, self.data, self.split, self.evaluation
        )

    def prior_hash(self, inversion: str) -> str:
        """Hash everything that the prior of one inversion attack depends on."""
        return specification_hash(
            "prior", self.name, self.seed, self.data, self.split, inversion, self.priors[inversion]
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitSpec:
    """A unit: everything that its outcome depends on.

    Attributes:
        unit_id: name of the unit.
        seed_name: name from which its seeds are derived, together with the block's seed. Units of a
            matched set share it; for other units it is the unit_id.
        block: its data, evaluation models and priors.
        architecture: architecture of the target model.
        defense: defense of its arm.
        training: schedule of the target model.
        inversions: attacks by name; each searches the block's prior of that name.
        robustness: how robust accuracy is measured.
        workers: processes that train the target model together.
        bounds: how the image given to the target model is bounded; None if it is not measured.
        students: by name of the attack, networks that are attacked instead of the target model.
        smoothing: by name of the attack, how the attacked network is smoothed.
    """

    unit_id: str
    seed_name: str
    block: BlockSpec
    architecture: str
    defense: Defense
    training: Training
    inversions: dict[str, Attack]
    robustness: Robustness
    workers: int = 1
    bounds: Bounds | None = None
    students: dict[str, Students] = field(default_factory=dict)
    smoothing: dict[str, Smoothing] = field(default_factory=dict)

    def seed(self, stage: str) -> int:
        """Derive the seed of a stage; it does not depend on the arm."""
        return derive_seed(self.block.seed, self.seed_name, stage)

    def train_hash(self) -> str:
        """Hash everything that the trained target model depends on."""
        return specification_hash(
            "train", self.seed_name, self.block.seed, self.block.data, self.block.split,
            self.architecture, self.defense, self.training, self.workers,
        )  # fmt: skip

    def first_with_students(self, inversion: str) -> str:
        """Name the attack for which the students of an attack are trained.

        Attacks share students if the students' options and the options of the prior are the same;
        whether the target model is attacked beside them does not matter.
        """

        def key(name: str) -> Any:
            return replace(self.students[name], with_target=False), self.block.priors[name]

        return min(name for name in self.students if key(name) == key(inversion))

    def students_hash(self, inversion: str) -> str:
        """Hash everything that the students of one attack depend on."""
        first = self.first_with_students(inversion)
        return specification_hash(
            "students", self.train_hash(), self.block.prior_hash(first),
            first, replace(self.students[first], with_target=False),
        )  # fmt: skip

    def adaptation(self, inversion: str) -> dict[str, Any]:
        """Describe what one attack attacks instead of the target model; empty if nothing."""
        found: dict[str, Any] = {}
        if inversion in self.students:
            found["students"] = self.students_hash(inversion)
            found["with_target"] = self.students[inversion].with_target
        if inversion in self.smoothing:
            found["smoothing"] = self.smoothing[inversion]
        return found

    def invert_hash(self, inversion: str) -> str:
        """Hash everything that the reconstructions of one attack depend on."""
        adapted = self.adaptation(inversion)
        return specification_hash(
            "invert", self.train_hash(), self.block.prior_hash(inversion),
            inversion, self.inversions[inversion], *([adapted] if adapted else []),
        )  # fmt: skip

    def score_hash(self) -> str:
        """Hash everything that the scores depend on."""
        inversions = [self.invert_hash(name) for name in self.inversions]
        return specification_hash("score", inversions, self.block.evaluation_hash())

    def robustness_hash(self) -> str:
        """Hash everything that the robust accuracies depend on."""
        return specification_hash("robustness", self.train_hash(), self.robustness)

    def bounds_hash(self) -> str:
        """Hash everything that the bounds depend on."""
        return specification_hash("bounds", self.train_hash(), self.bounds)

    def outcome_hash(self) -> str:
        """Hash everything that the outcome depends on."""
        measured = [] if self.bounds is None else [self.bounds_hash()]
        return specification_hash("outcome", self.score_hash(), self.robustness_hash(), *measured)
