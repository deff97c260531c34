"""Loss of the auxiliary head that a deep network has in training besides its last layer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from atat_ray.models.batch_norm_modes import frozen_statistics
from atat_ray.models.layer_access import FrontEnd, unwrap


@contextmanager
def auxiliary_head(model: Any) -> Iterator[None]:
    """Make a model, wrapped or not, return the logits of its auxiliary head inside the block.

    Raises:
        ValueError: the network has no auxiliary head.
    """
    inner = unwrap(model)
    network: Any = inner.body if isinstance(inner, FrontEnd) else inner
    if getattr(network, "auxiliary", None) is None:
        raise ValueError(
            f"auxiliary_weight needs a network with an auxiliary head, which "
            f"{type(network).__name__} does not have; use inception_v3, or drop auxiliary_weight"
        )
    network.use_auxiliary = True
    try:
        yield
    finally:
        network.use_auxiliary = False


def auxiliary_loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Compute the mean cross-entropy of the auxiliary head on clean images.

    The head has a forward pass of its own, so that it works with every defense, however often that
    runs the network. The pass does not update the running statistics of batch normalisation,
    because the main pass over the same images has done so.
    """
    with auxiliary_head(model), frozen_statistics(model):
        return cross_entropy(model(images), labels)
