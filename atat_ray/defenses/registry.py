"""Training-time defenses: each a loss, with a dataclass of what a protocol may set.

A defense is named in :data:`DEFENSES`. Its dataclass holds the options, checks them, and computes
the loss of one batch; what the paper chose (weight, epsilon, steps) has no default. What earlier
code did differently is the preset ``reference`` of a class. docs/defenses.md describes each.
"""

from atat_ray.defenses.adversarial import Adversarial
from atat_ray.defenses.anti_adversarial import AntiAdversarial
from atat_ray.defenses.bido import Bido
from atat_ray.defenses.decoy_noise import DecoyNoise
from atat_ray.defenses.label_smoothing import LabelSmoothing
from atat_ray.defenses.mid import Mid
from atat_ray.defenses.neg_ls import NegLs
from atat_ray.defenses.pixel_lasso import PixelLasso
from atat_ray.defenses.rolss import Rolss, Ssf
from atat_ray.defenses.sca import Sca
from atat_ray.defenses.tl_dmi import TlDmi
from atat_ray.defenses.trap_mid import TrapMid
from atat_ray.training.interface import Defense
from atat_ray.training.no_defense import NoDefense
from atat_ray.utils.errors import unknown

DEFENSES: dict[str, type[Defense]] = {
    "none": NoDefense,
    "anti_adversarial": AntiAdversarial,
    "decoy_noise": DecoyNoise,
    "label_smoothing": LabelSmoothing,
    "adversarial": Adversarial,
    "mid": Mid,
    "bido": Bido,
    "tl_dmi": TlDmi,
    "neg_ls": NegLs,
    "rolss": Rolss,
    "ssf": Ssf,
    "trap_mid": TrapMid,
    "sca": Sca,
    "pixel_lasso": PixelLasso,
}


def find_defense(name: str) -> type[Defense]:
    """Look a defense up by its name in protocols.

    Raises:
        ValueError: the name is unknown; the message has the nearest and all known ones.
    """
    if name not in DEFENSES:
        raise unknown("defense", name, DEFENSES)
    return DEFENSES[name]


def defense_name(defense: Defense) -> str:
    """Name a defense as protocols do."""
    return next(name for name, kind in DEFENSES.items() if kind is type(defense))
