"""Precision, recall, density and coverage (PRDC) of fake features against real ones."""

import torch
from torch import Tensor


def distances(one: Tensor, other: Tensor) -> Tensor:
    """Compute unsquared L2 distances: (N, D), (M, D) -> (N, M)."""
    return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")


def radii(features: Tensor, k: int) -> Tensor:
    """Find the distance of each row to its k-th nearest other row: (N, D) -> (N,)."""
    return distances(features, features).kthvalue(k + 1, dim=1).values


def prdc(real: Tensor, fake: Tensor, *, k: int) -> dict[str, float]:
    """Measure how well two sets of features cover each other.

    The ball of a row reaches to its k-th nearest neighbour in its own set. Precision is the share
    of fake rows in the ball of any real row, recall the share of real rows in the ball of any fake
    row (Kynkaanniemi et al. 2019). Density is the mean number of balls of real rows that contain a
    fake row, divided by k; coverage is the share of real rows whose ball contains a fake row (Naeem
    et al. 2020, Eq. 4 and 5).

    Args:
        real: (N, D), more than k rows.
        fake: (M, D), more than k rows.
        k: number of neighbours, 1 or more.

    Raises:
        ValueError: a set has k rows or fewer.
    """
    if not 1 <= k < min(len(real), len(fake)):
        raise ValueError(
            f"k must be 1 or more and below the number of rows, got {k} for {len(real)} real and "
            f"{len(fake)} fake rows"
        )
    between = distances(real, fake)
    in_real = between < radii(real, k)[:, None]
    in_fake = between < radii(fake, k)[None, :]
    return {
        "precision": float(in_real.any(dim=0).float().mean()),
        "recall": float(in_fake.any(dim=1).float().mean()),
        "density": float(in_real.sum(dim=0).float().mean()) / k,
        "coverage": float(in_real.any(dim=1).float().mean()),
    }


def prdc_by_class(
    real: Tensor, real_classes: Tensor, fake: Tensor, fake_classes: Tensor, *, k: int
) -> dict[str, float]:
    """Average :func:`prdc` over all classes of the fake rows, class 0 included.

    Args:
        real: (N, D).
        real_classes: (N,) long.
        fake: (M, D).
        fake_classes: (M,) long.
        k: number of neighbours.
    """
    rows = [
        prdc(real[real_classes == c], fake[fake_classes == c], k=k) for c in fake_classes.unique()
    ]
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
