"""One unit of a trial: train a target model, invert it, measure it.

:func:`run_unit` takes a specification to an outcome, stage by stage. Each stage is a file that
holds the hash of everything it depends on, so that an interrupted unit resumes where it stopped and
a finished one is never repeated. The evaluation models and priors of a block are built once for all
its units, by :func:`build_block_assets`.

A specification names its results by hashes. The robustness settings are no part of what the target
model depends on:

>>> from dataclasses import replace
>>> from atat_ray.data import Data
>>> from atat_ray.defenses import DEFENSES
>>> from atat_ray.evaluation import Evaluation
>>> from atat_ray.inversion import ATTACKS
>>> from atat_ray.priors import PRIORS
>>> from atat_ray.robustness import Robustness
>>> from atat_ray.training import Training
>>> training = Training(epochs=40, batch_size=56, learning_rate=0.0015, weight_decay=0.02)
>>> data = Data(name="orl_faces", num_private=24, num_train=7, size=64)
>>> evaluation = Evaluation(ensemble=2, training=training)
>>> block = BlockSpec(name="split-0", seed=1, data=data, split=0, evaluation=evaluation,
...                   priors={"standard": PRIORS["warped"]()})
>>> spec = UnitSpec(unit_id="split-0-01", seed_name="split-0-01", block=block,
...                 architecture="small_resnet", defense=DEFENSES["none"](), training=training,
...                 inversions={"standard": ATTACKS["ppa"].from_preset("quick")},
...                 robustness=Robustness(attacks="apgd-10", epsilons=(0.01,)))
>>> other = replace(spec, robustness=Robustness(attacks="apgd-10", epsilons=(0.02,)))
>>> spec.train_hash() == other.train_hash(), spec.outcome_hash() == other.outcome_hash()
(True, False)
"""

from atat_ray.unit.block_assets import build_block_assets
from atat_ray.unit.run import read_outcome, run_unit
from atat_ray.unit.spec import BlockSpec, UnitSpec

__all__ = ["BlockSpec", "UnitSpec", "build_block_assets", "read_outcome", "run_unit"]
