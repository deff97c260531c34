"""Frechet distance between two sets of features, under a Gaussian model of each."""

import torch
from torch import Tensor


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and unbiased covariance in float64: (N, D) -> (D,), (D, D)."""
    x = features.double()
    return x.mean(dim=0), x.T.cov().view(x.shape[1], x.shape[1])


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Compute ``|m - n|^2 + tr(A + B - 2 (A B)^(1/2))`` of two sets of features.

    m, n are the means and A, B the covariances (Dowson and Landau 1982). With Inception features it
    is the FID of Heusel et al. (2017). Both sets must come from images of the same range; in this
    package that is always [0, 1].

    Args:
        real: (N, D), 2 rows or more.
        fake: (M, D), 2 rows or more.

    Raises:
        ValueError: a set has fewer than 2 rows, or the widths differ.
    """
    if min(len(real), len(fake)) < 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(
            "both sets must have 2 rows or more and the same width, "
            f"got {tuple(real.shape)} and {tuple(fake.shape)}"
        )
    (m, a), (n, b) = moments(real), moments(fake)
    # (A B)^(1/2) has the same trace as the symmetric (A^(1/2) B A^(1/2))^(1/2).
    values, vectors = torch.linalg.eigh(a)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    trace = torch.linalg.eigvalsh(root @ b @ root).clamp_min(0).sqrt().sum()
    return float((m - n).square().sum() + a.trace() + b.trace() - 2 * trace)
