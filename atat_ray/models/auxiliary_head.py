"""The loss of an auxiliary head, which a deep network has beside its last layer in training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from atat_ray.models.batch_norm_modes import frozen_statistics
from atat_ray.models.introspection import FrontEnd, unwrap


@contextmanager
def auxiliary_head(model: Any) -> Iterator[None]:
    """Let a model, through its wrappers, return the logits of its auxiliary head in the block.

    Raises:
        ValueError: it has none.
    """
    inner = unwrap(model)
    network: Any = inner.body if isinstance(inner, FrontEnd) else inner
    if getattr(network, "auxiliary", None) is None:
        raise ValueError(
            f"auxiliary_weight needs a network with an auxiliary head, which "
            f"{type(network).__name__} has not; use inception_v3, or leave it out"
        )
    network.use_auxiliary = True
    try:
        yield
    finally:
        network.use_auxiliary = False


def auxiliary_loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Compute the mean cross-entropy of the auxiliary head on clean images.

    It takes a pass of its own, so that a defense, which runs the network as often as it wants,
    knows nothing of it; running statistics of batch normalisation stay, as the images have moved
    them already.
    """
    with auxiliary_head(model), frozen_statistics(model):
        return cross_entropy(model(images), labels)
