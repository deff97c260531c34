"""Where intermediate features may go: a ball about the place where a stage began."""

import torch
from torch import Tensor


def project_l1(moves: Tensor, radii: Tensor) -> Tensor:
    """Project each row of ``moves`` onto the L1 ball about zero.

    The nearest point of the ball lowers all magnitudes by one threshold, down to zero (Duchi,
    Shalev-Shwartz, Singer & Chandra 2008, "Efficient Projections onto the l1-Ball", Fig. 1).

    Args:
        moves: (N, ...).
        radii: (N,), above 0.
    """
    flat = moves.flatten(1)
    sizes = flat.abs()
    ordered = sizes.sort(dim=1, descending=True).values
    excess = ordered.cumsum(1) - radii[:, None]
    counts = torch.arange(1, flat.shape[1] + 1, device=flat.device)
    last = (ordered * counts > excess).sum(dim=1, keepdim=True).clamp_min(1)
    threshold = excess.gather(1, last - 1) / last
    inside = sizes.sum(dim=1, keepdim=True) <= radii[:, None]
    shrunk = flat.sign() * (sizes - threshold).clamp_min(0)
    return torch.where(inside, flat, shrunk).view_as(moves)


def l1_norm(rows: Tensor) -> Tensor:
    """Give the L1 norm of each row of (N, ...): (N,)."""
    return rows.flatten(1).abs().sum(1)
