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
    distances = features.new_empty(len(features))
    rows = torch.empty_like(classes)
    for c in classes.unique():  # one at a time: all pairs would be gigabytes for hundreds of people
        mine, theirs = classes == c, (train_classes == c).nonzero().squeeze(1)
        nearest = torch.cdist(
            features[mine], train_features[theirs], compute_mode="donot_use_mm_for_euclid_dist"
        ).min(dim=1)
        distances[mine], rows[mine] = nearest.values, theirs[nearest.indices]
    return distances, rows
