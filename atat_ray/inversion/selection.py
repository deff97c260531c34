"""Which latents to start from, and which reconstructions to keep."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from atat_ray.data.transforms import random_resized_crop
from atat_ray.seeding import BatchDraws


@torch.no_grad()
def initial_candidates(
    target: nn.Module, synthesize: Callable[[Tensor], Tensor], latents: Tensor, num_candidates: int
) -> Tensor:
    """Choose for each class the latents whose images the target model is surest about.

    The score is the mean probability on an image and its mirror image (PPA, Sec. 3.2).

    Args:
        target: images to (N, C) logits, in evaluation mode.
        synthesize: latents (N, D) to images in [0, 1].
        latents: (N, D) to choose from; one latent may serve several classes.
        num_candidates: kept for each class.

    Returns:
        (C, num_candidates, D), best first.
    """
    images = synthesize(latents)
    score = target(images).softmax(1) + target(images.flip(3)).softmax(1)
    best = score.topk(num_candidates, dim=0).indices
    return latents[best.T]


@torch.no_grad()
def robust_confidence(
    target: nn.Module,
    images: Tensor,
    classes: Tensor,
    draws: BatchDraws,
    *,
    views: int,
    area: tuple[float, float],
) -> Tensor:
    """Score images by the mean probability of their class over random crops and flips, (N,).

    Reconstructions that only fool the target model lose it under such views; PPA's final
    selection (Sec. 3.4).
    """
    total = torch.zeros(len(images), device=images.device)
    for _ in range(views):
        crops = random_resized_crop(images, draws, area=area, ratio=(0.8, 1.2), flip=True)
        total += target(crops).softmax(1).gather(1, classes[:, None]).squeeze(1)
    return total / views
