"""All that a unit's outcome depends on, and the hashes that name its stages by it."""

from dataclasses import dataclass

from atat_ray.data import Data
from atat_ray.evaluation import Evaluation
from atat_ray.inversion import Attack
from atat_ray.priors import PriorOptions
from atat_ray.robustness import Robustness
from atat_ray.training import Training
from atat_ray.training.interface import Defense
from atat_ray.utils.hashing import specification_hash
from atat_ray.utils.seeding import derive_seed


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockSpec:
    """A block: the people of one split, and what is made of them for all its units.

    Attributes:
        name: of the block.
        seed: of the campaign.
        data: the dataset.
        split: number of the identity split.
        evaluation: how the evaluation models are trained, on the private training images.
        priors: options by name of the inversion attack that searches it; fitted to public images.
    """

    name: str
    seed: int
    data: Data
    split: int
    evaluation: Evaluation
    priors: dict[str, PriorOptions]

    def evaluation_hash(self) -> str:
        """Name the evaluation models by what they depend on."""
        return specification_hash(
            "evaluation", self.name, self.seed, self.data, self.split, self.evaluation
        )

    def prior_hash(self, inversion: str) -> str:
        """Name the prior of one inversion attack by what it depends on."""
        return specification_hash(
            "prior", self.name, self.seed, self.data, self.split, inversion, self.priors[inversion]
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitSpec:
    """All that a unit's outcome depends on.

    Attributes:
        unit_id: names the unit.
        seed_name: what its seeds are derived from, beside the block's seed; units of a matched set
            share it, others have their unit_id.
        block: its data, evaluation models and priors.
        architecture: of the target model.
        defense: what its arm says.
        training: schedule of the target model.
        inversions: attack by name, each on the block's prior of that name.
        robustness: how robust accuracy is measured.
        workers: processes that share the training of the target model.
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

    def seed(self, stage: str) -> int:
        """Derive the seed of a stage; it does not depend on the arm."""
        return derive_seed(self.block.seed, self.seed_name, stage)

    def train_hash(self) -> str:
        """Name the trained target model by what it depends on."""
        return specification_hash(
            "train", self.seed_name, self.block.seed, self.block.data, self.block.split,
            self.architecture, self.defense, self.training, self.workers,
        )  # fmt: skip

    def invert_hash(self, inversion: str) -> str:
        """Name the reconstructions of one attack by what they depend on."""
        return specification_hash(
            "invert", self.train_hash(), self.block.prior_hash(inversion),
            inversion, self.inversions[inversion],
        )  # fmt: skip

    def score_hash(self) -> str:
        """Name the scores by what they depend on."""
        inversions = [self.invert_hash(name) for name in self.inversions]
        return specification_hash("score", inversions, self.block.evaluation_hash())

    def robustness_hash(self) -> str:
        """Name the robust accuracies by what they depend on."""
        return specification_hash("robustness", self.train_hash(), self.robustness)

    def outcome_hash(self) -> str:
        """Name the outcome by what it depends on."""
        return specification_hash("outcome", self.score_hash(), self.robustness_hash())
