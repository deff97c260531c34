"""Registry of the inversion attacks by name, and the function that runs one."""

from collections.abc import Sequence

from torch import Tensor, nn

from atat_ray.inversion.interface import Attack, Reconstructions, Scope
from atat_ray.priors import Prior
from atat_ray.utils.registry import Registry

ATTACKS: Registry[type[Attack]] = Registry(
    "inversion attack",
    {
        "if_gmi": "atat_ray.inversion.if_gmi:IfGmi",
        "ppa": "atat_ray.inversion.ppa:Ppa",
        "ppdg": "atat_ray.inversion.ppdg:Ppdg",
    },
)


def invert(
    target: nn.Module,
    prior: Prior,
    num_classes: int,
    attack: Attack,
    *,
    seed: int,
    part: Sequence[int] | None = None,
    shared: dict[str, Tensor] | None = None,
) -> Reconstructions:
    """Reconstruct the classes of a target model.

    Args:
        target: images in [0, 1] to (N, C) logits; put into evaluation mode.
        prior: image generator to search.
        num_classes: C.
        attack: which attack, with its budget and settings.
        seed: seed of all draws.
        part: classes to attack, in rising order; all that the attack's options name if None. A
            part uses the draws that it would use if all classes were attacked at once.
        shared: one dictionary for all parts of an attack that run in one process; see ``Scope``.

    Raises:
        ValueError: the prior lacks what the attack needs.
    """
    target.eval()
    scope = Scope(
        num_classes=num_classes,
        part=attack.attacked(num_classes) if part is None else part,
        seed=seed,
        device=next(target.parameters()).device,
        shared={} if shared is None else shared,
    )
    return attack.search(target, prior, scope)
