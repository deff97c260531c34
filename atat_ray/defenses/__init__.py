"""Training-time defenses against model inversion, one file each, found by name in DEFENSES.

A defense is a dataclass of options with a loss. It may also change the model (``prepare``) or keep
state during a training (``begin``); see :class:`Defense`. ``docs/defenses.md`` describes each.

>>> from atat_ray.data import Data, load_split
>>> from atat_ray.models import build_target
>>> from atat_ray.training import Training, train
>>> split = load_split(Data(name="orl_faces", num_private=4, num_train=7, size=32), split=0)
>>> defense = DEFENSES["anti_adversarial"](
...     weight=1.0, epsilon=0.01, steps=2, step_size=0.005, random_start=True
... )
>>> model = build_target("small_resnet", num_classes=4, channels=1, seed=0)
>>> model = defense.prepare(model, public=split.public, seed=0)
>>> training = Training(epochs=1, batch_size=14, learning_rate=0.003, weight_decay=0.01)
>>> curves = train(model, split.train, defense, training, seed=0)
>>> sorted(curves[0])
['clean_loss', 'decoy_hit_rate', 'decoy_loss', 'loss']
"""

from atat_ray.defenses.registry import DEFENSES
from atat_ray.training.interface import Defense, LossTerms

__all__ = ["DEFENSES", "Defense", "LossTerms"]
