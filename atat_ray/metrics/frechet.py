"""Frechet distance between two sets of features, as if both were Gaussian."""

import torch
from torch import Tensor


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and unbiased covariance in float64: (N, D) -> (D,), (D, D)."""
    x = features.double()
    return x.mean(dim=0), x.T.cov().view(x.shape[1], x.shape[1])


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Compute ``|m - n|^2 + tr(A + B - 2 (A B)^(1/2))`` of two sets of features.

    Dowson and Landau (1982); with Inception features it is the FID of Heusel et al. (2017). Both
    sets must come from images of one range, and here that is always [0, 1].

    Args:
        real: (N, D), 2 rows or more.
        fake: (M, D), 2 rows or more.

    Raises:
        ValueError: too few rows, or features of different widths.
    """
    if min(len(real), len(fake)) < 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(
            "two sets of 2 or more rows and of one width are needed, "
            f"got {tuple(real.shape)} and {tuple(fake.shape)}"
        )
    (m, a), (n, b) = moments(real), moments(fake)
    # The trace of (A B)^(1/2) is that of the symmetric (A^(1/2) B A^(1/2))^(1/2).
    values, vectors = torch.linalg.eigh(a)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    shared = torch.linalg.eigvalsh(root @ b @ root).clamp_min(0).sqrt().sum()
    return float((m - n).square().sum() + a.trace() + b.trace() - 2 * shared)
