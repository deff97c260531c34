"""Networks from images in [0, 1] to logits, normalisation inside."""

from collections.abc import Callable

import torch
from torch import nn

from atat_ray.models.small_resnet import SmallResNet
from atat_ray.names import unknown
from atat_ray.seeding import seeded

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"small_resnet": SmallResNet}


def build_target(architecture: str, *, num_classes: int, channels: int, seed: int) -> nn.Module:
    """Build a target model, weights drawn from ``seed``, in channels-last layout.

    Args:
        architecture: a key of ARCHITECTURES.
        num_classes: number of logits.
        channels: of the images, 1 for gray.
        seed: of the initial weights; the global generator is left as it was.

    Raises:
        ValueError: the architecture is unknown.
    """
    if architecture not in ARCHITECTURES:
        raise unknown("architecture", architecture, ARCHITECTURES)
    with seeded(seed):
        model = ARCHITECTURES[architecture](num_classes=num_classes, channels=channels)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
