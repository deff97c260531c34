"""Build networks from images in [0, 1] to logits, with normalisation inside."""

from functools import partial
from typing import Any

import torch
from torch import nn

from atat_ray.models.backbones import FAMILIES, Backbone, Inception
from atat_ray.models.small_resnet import SmallResNet
from atat_ray.utils.errors import unknown
from atat_ray.utils.seeding import seeded

ARCHITECTURES: dict[str, type[SmallResNet] | type[Backbone]] = {
    "small_resnet": SmallResNet,
    **FAMILIES,
}
WEIGHTS = ("none", "imagenet")


def check_architecture(architecture: str, *, weights: str, auxiliary: bool) -> None:
    """Refuse a network that cannot be built.

    Raises:
        ValueError: the architecture is unknown, or has no such weights or no auxiliary head.
    """
    if architecture not in ARCHITECTURES:
        raise unknown("architecture", architecture, ARCHITECTURES)
    if weights not in WEIGHTS:
        raise unknown("weights", weights, WEIGHTS)
    if weights == "imagenet" and architecture not in FAMILIES:
        raise ValueError(
            f"there are no ImageNet weights of {architecture}; set weights: none, or choose one of "
            f"{', '.join(FAMILIES)}"
        )
    if auxiliary and FAMILIES.get(architecture) is not Inception:
        raise ValueError(
            f"{architecture} has no auxiliary head; drop auxiliary_weight, or choose inception_v3"
        )


def new_network(
    architecture: str, *, num_classes: int, channels: int, weights: str, auxiliary: bool
) -> nn.Module:
    """Build a network with weights drawn from the global generator; see :func:`build_target`.

    Raises:
        ValueError: the architecture is unknown, or its ImageNet weights are missing.
    """
    check_architecture(architecture, weights=weights, auxiliary=auxiliary)
    kind: Any = ARCHITECTURES[architecture]
    if architecture in FAMILIES:
        kind = partial(kind, architecture, weights=weights)
    if ARCHITECTURES[architecture] is Inception:
        kind = partial(kind, auxiliary=auxiliary)
    return kind(num_classes=num_classes, channels=channels)


def build_target(
    architecture: str,
    *,
    num_classes: int,
    channels: int,
    seed: int,
    weights: str = "none",
    auxiliary: bool = False,
) -> nn.Module:
    """Build a target model with weights drawn from ``seed``, in channels-last layout.

    Args:
        architecture: a key of ARCHITECTURES.
        num_classes: number of logits.
        channels: of the images, 1 for gray.
        seed: of the initial weights; the global generator is not changed.
        weights: "none" or "imagenet"; the weights of the head are drawn in both cases.
        auxiliary: whether to add the auxiliary head of the architecture.

    Raises:
        ValueError: the architecture is unknown, or its ImageNet weights are missing.
    """
    with seeded(seed):
        model = new_network(
            architecture,
            num_classes=num_classes,
            channels=channels,
            weights=weights,
            auxiliary=auxiliary,
        )
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
