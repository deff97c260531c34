"""Losses that an inversion attack minimises over latents, one value a candidate."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot


def poincare_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the Poincare distance between logits of unit L1 norm and the target class, (N,).

    Implements Eq. 3 of Struppek et al. (2022), "Plug & Play Attacks":
    ``arcosh(1 + 2 |u - v|^2 / ((1 - |u|^2) (1 - |v|^2)))`` with ``u = logits / |logits|_1`` and v
    the one-hot target minus 1e-4, clamped to [0, 1].

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

    This is the loss of GMI (Zhang et al. 2020). Its gradient vanishes as the target model's
    confidence approaches 1.
    """
    return cross_entropy(logits, targets, reduction="none")


def logit_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the negative logit of the target class, (N,).

    This is the identity loss of Nguyen et al. (2023), "Re-thinking Model Inversion Attacks Against
    Deep Neural Networks", without the term that keeps features near those of public images.
    """
    return -logits.gather(1, targets[:, None]).squeeze(1)


def max_margin_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the largest logit of another class minus that of the target class, (N,).

    This is the identity loss of PLG-MI (Yuan et al. 2023, "Pseudo Label-Guided Model Inversion
    Attack via Conditional GAN", Eq. 5), with which LOKT (Nguyen et al. 2023b) attacks surrogates.
    It is the same for logits and for log probabilities.

    Args:
        logits: (N, C), C of 2 or more.
        targets: (N,) long, the class to reconstruct.
    """
    own = one_hot(targets, logits.shape[1]).bool()
    return logits.masked_fill(own, -torch.inf).amax(1) - logits[own]


# Losses by their names in protocols: logits (N, C) and targets (N,) to losses (N,).
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy_loss,
    "logit": logit_loss,
    "max_margin": max_margin_loss,
    "poincare": poincare_loss,
}
