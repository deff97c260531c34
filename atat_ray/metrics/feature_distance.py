"""Distance of a reconstruction to the nearest training image of its class, in feature space."""

import torch
from torch import Tensor


def nearest_of_class(
    features: Tensor, classes: Tensor, train_features: Tensor, train_classes: Tensor
) -> tuple[Tensor, Tensor]:
    """Find the nearest training image of the same class by unsquared L2 distance.

    Args:
        features: (N, D) of reconstructions.
        classes: (N,) long.
        train_features: (M, D), every class at least once.
        train_classes: (M,) long.

    Returns:
        distances (N,), and rows (N,) of the nearest training images.
    """
    distances = torch.cdist(features, train_features, compute_mode="donot_use_mm_for_euclid_dist")
    distances = distances.masked_fill(classes[:, None] != train_classes, torch.inf)
    nearest = distances.min(dim=1)
    return nearest.values, nearest.indices
