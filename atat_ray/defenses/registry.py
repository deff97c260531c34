"""Registry of training-time defenses: the names that a protocol can give, each with its class.

To add a defense, write a file in ``atat_ray/defenses`` with a dataclass of its options (see
:class:`atat_ray.training.interface.Defense`) and add one line here. What the paper chose (weight,
epsilon, steps) has no default; what the reference code does differently is the preset
``reference``. ``docs/defenses.md`` describes each defense.
"""

from atat_ray.training.interface import Defense
from atat_ray.utils.registry import Registry

DEFENSES: Registry[type[Defense]] = Registry(
    "defense",
    {
        "none": "atat_ray.training.no_defense:NoDefense",
        "anti_adversarial": "atat_ray.defenses.anti_adversarial:AntiAdversarial",
        "decoy_noise": "atat_ray.defenses.decoy_noise:DecoyNoise",
        "early_stopping": "atat_ray.defenses.early_stopping:EarlyStopping",
        "label_smoothing": "atat_ray.defenses.label_smoothing:LabelSmoothing",
        "adversarial": "atat_ray.defenses.adversarial:Adversarial",
        "mid": "atat_ray.defenses.mid:Mid",
        "bido": "atat_ray.defenses.bido:Bido",
        "tl_dmi": "atat_ray.defenses.tl_dmi:TlDmi",
        "neg_ls": "atat_ray.defenses.neg_ls:NegLs",
        "rolss": "atat_ray.defenses.rolss:Rolss",
        "ssf": "atat_ray.defenses.rolss:Ssf",
        "trap_mid": "atat_ray.defenses.trap_mid:TrapMid",
        "sparse_standard": "atat_ray.defenses.sparse_standard:SparseStandard",
        "sca": "atat_ray.defenses.sca:Sca",
        "pixel_lasso": "atat_ray.defenses.pixel_lasso:PixelLasso",
    },
)
