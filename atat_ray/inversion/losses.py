"""What an inversion attack minimises over latents, for each candidate by itself."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot


def poincare_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the Poincare distance between logits of unit L1 norm and the target class, (N,).

    Implements Eq. 3 of Struppek et al. (2022), "Plug & Play Attacks": ``u = logits / |logits|_1``,
    v the one-hot target pulled 1e-4 inside the ball,
    ``arcosh(1 + 2 |u - v|^2 / ((1 - |u|^2) (1 - |v|^2)))``.

    Args:
        logits: (N, C).
        targets: (N,) long, the class to reconstruct.
    """
    u = logits / logits.abs().sum(dim=1, keepdim=True)
    v = (one_hot(targets, logits.shape[1]).to(logits) - 1e-4).clamp(0, 1)
    gap = (u - v).square().sum(1)
    inside = (1 - u.square().sum(1)) * (1 - v.square().sum(1))
    return torch.arccosh(1 + 2 * gap / inside.clamp_min(1e-12))


def cross_entropy_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the negative log probability of the target class, (N,).

    The loss of GMI (Zhang et al. 2020); its gradient fades once the target model is sure.
    """
    return cross_entropy(logits, targets, reduction="none")


def logit_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the negative logit of the target class, (N,).

    The identity loss of Nguyen et al. (2023), "Re-thinking Model Inversion Attacks Against Deep
    Neural Networks", without the term that keeps features near those of public images.
    """
    return -logits.gather(1, targets[:, None]).squeeze(1)


# What a protocol can name; each takes logits (N, C) and targets (N,) and gives (N,).
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy_loss,
    "logit": logit_loss,
    "poincare": poincare_loss,
}
