"""Model inversion attacks: reconstruct the people that a target model was trained on.

An attack optimises inputs of a prior until the target model assigns the images to a class.
:data:`ATTACKS` maps each name in protocols to a class of options; ``docs/attacks.md`` describes
them. Here PPA reconstructs the three classes of an untrained model:

>>> from atat_ray.data import Data, load_split
>>> from atat_ray.models import build_target
>>> from atat_ray.priors import PRIORS, fit_prior
>>> public = load_split(Data(name="orl_faces", num_private=24, num_train=7, size=32), 0).public
>>> prior = fit_prior(PRIORS["rotated_pca"](num_components=20, num_faces=60), public, seed=1)
>>> target = build_target("small_resnet", num_classes=3, channels=1, seed=1)
>>> attack = ATTACKS["ppa"].from_preset("quick", samples=20, steps=3, keep=2)
>>> found = invert(target, prior, 3, attack, seed=1)
>>> found.classes.tolist(), found.images.shape
([0, 0, 1, 1, 2, 2], torch.Size([6, 1, 32, 32]))
"""

from atat_ray.inversion.interface import Attack, Reconstructions
from atat_ray.inversion.registry import ATTACKS, invert

__all__ = ["ATTACKS", "Attack", "Reconstructions", "invert"]
