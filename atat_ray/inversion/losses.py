"""What an inversion attack minimises over latents."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot


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
