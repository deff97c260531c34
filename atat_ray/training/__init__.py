"""Training of target models: the loop, its schedule and checkpoints, and the defense interface.

:func:`train` trains a model in place with the schedule of a :class:`Training` and the loss of a
:class:`~atat_ray.training.interface.Defense`. It returns one row of curves for each epoch.

>>> from atat_ray.data import Data, load_split
>>> from atat_ray.models import build_target
>>> from atat_ray.training.no_defense import NoDefense
>>> split = load_split(Data(name="orl_faces", num_private=4, num_train=7, size=32), split=0)
>>> model = build_target("small_resnet", num_classes=4, channels=1, seed=0)
>>> training = Training(epochs=2, batch_size=14, learning_rate=0.003, weight_decay=0.01)
>>> curves = train(model, split.train, NoDefense(), training, seed=0)
>>> len(curves), sorted(curves[0]), 0 <= accuracy(model, split.test) <= 1
(2, ['clean_loss', 'loss'], True)
"""

from atat_ray.training.loop import accuracy, train
from atat_ray.training.schedule import Training

__all__ = ["Training", "accuracy", "train"]
