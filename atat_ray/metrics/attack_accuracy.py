"""Attack accuracy: share of reconstructions on which an evaluator recognises the class."""

from torch import Tensor


def hits(scores: Tensor, classes: Tensor, k: int) -> Tensor:
    """Tell whether the class is among the k highest scores: (N, C), (N,) -> (N,) bool.

    Ties count against the attack: at most k classes, the own one included, may have a score equal
    to or higher than that of the class. A row with a NaN is no hit.
    """
    own = scores.gather(1, classes[:, None])
    return ((scores >= own).sum(1) <= k) & ~scores.isnan().any(1)


def hits_by_class(hit: Tensor, classes: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Count hits k and reconstructions n of each class: two (num_classes,) long."""
    return (
        classes[hit].bincount(minlength=num_classes),
        classes.bincount(minlength=num_classes),
    )
