"""Distance from a reconstruction to the nearest training image of its class, in features."""

import torch
from torch import Tensor


def nearest_of_class(
    features: Tensor, classes: Tensor, train_features: Tensor, train_classes: Tensor
) -> tuple[Tensor, Tensor]:
    """Find the nearest training image of the same class by unsquared L2 distance.

    Args:
        features: (N, D), features of reconstructions.
        classes: (N,) long.
        train_features: (M, D), features of training images; each class occurs at least once.
        train_classes: (M,) long.

    Returns:
        distances (N,), and rows (N,) of the nearest training images.
    """
    distances = features.new_empty(len(features))
    rows = torch.empty_like(classes)
    for c in classes.unique():  # all pairs at once would need gigabytes for hundreds of people
        of_class, train_rows = classes == c, (train_classes == c).nonzero().squeeze(1)
        nearest = torch.cdist(
            features[of_class],
            train_features[train_rows],
            compute_mode="donot_use_mm_for_euclid_dist",
        ).min(dim=1)
        distances[of_class], rows[of_class] = nearest.values, train_rows[nearest.indices]
    return distances, rows
