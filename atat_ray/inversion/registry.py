"""The inversion attacks that a protocol can name, and how one is run."""

from collections.abc import Sequence

from torch import Tensor, nn

from atat_ray.inversion.if_gmi import IfGmi
from atat_ray.inversion.interface import Reconstructions, Scope
from atat_ray.inversion.ppa import Ppa
from atat_ray.inversion.ppdg import Ppdg
from atat_ray.priors import Prior

# What a protocol can name; each is a dataclass of options with search(target, prior, scope).
Attack = Ppa | IfGmi | Ppdg
ATTACKS: dict[str, type[Ppa] | type[IfGmi] | type[Ppdg]] = {
    "if_gmi": IfGmi,
    "ppa": Ppa,
    "ppdg": Ppdg,
}


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
    """Attack classes of a target model.

    Args:
        target: images in [0, 1] to (N, C) logits; attacked in evaluation mode.
        prior: the image generator that is searched.
        num_classes: C.
        attack: which one, its budget and settings.
        seed: of everything drawn here.
        part: classes that follow each other, all if not given; they see the draws that they would
            see if all were attacked at once.
        shared: one dictionary for the parts of one attack in one process, see ``Scope``.

    Raises:
        ValueError: the prior has not what the attack needs.
    """
    target.eval()
    scope = Scope(
        num_classes=num_classes,
        part=range(num_classes) if part is None else part,
        seed=seed,
        device=next(target.parameters()).device,
        shared={} if shared is None else shared,
    )
    return attack.search(target, prior, scope)
