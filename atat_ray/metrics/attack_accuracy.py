"""Attack accuracy: how often an evaluator recognises the target class on a reconstruction."""

from torch import Tensor


def hits(scores: Tensor, classes: Tensor, k: int) -> Tensor:
    """Tell whether the class is among the k highest scores: (N, C), (N,) -> (N,) bool.

    Ties count against the attack: a class must be higher than all but k - 1 others. Scores that are
    no numbers recognise nobody.
    """
    own = scores.gather(1, classes[:, None])
    return ((scores >= own).sum(1) <= k) & ~scores.isnan().any(1)


def hits_by_class(hit: Tensor, classes: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Count hits k and reconstructions n of each class: two (num_classes,) long."""
    return (
        classes[hit].bincount(minlength=num_classes),
        classes.bincount(minlength=num_classes),
    )
