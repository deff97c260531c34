"""Precision, recall, density and coverage of reconstructions against real images, by feature."""

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

    Precision and recall are those of Kynkaanniemi et al. (2019): the share of rows that lie in the
    k-th neighbour ball of any row of the other set. Density and coverage are those of Naeem et al.
    (2020), Eq. 4 and 5: balls around real rows that a fake row lies in, over k; and the share of
    real rows whose ball holds a fake one.

    Args:
        real: (N, D), more than k rows.
        fake: (M, D), more than k rows.
        k: neighbours, 1 or more.

    Raises:
        ValueError: there are too few rows for k.
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
    """Average :func:`prdc` over all classes of the fake rows, class 0 among them.

    Args:
        real: (N, D).
        real_classes: (N,) long.
        fake: (M, D).
        fake_classes: (M,) long.
        k: neighbours.
    """
    rows = [
        prdc(real[real_classes == c], fake[fake_classes == c], k=k) for c in fake_classes.unique()
    ]
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
