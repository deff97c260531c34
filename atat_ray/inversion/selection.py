"""Selection of the initial candidates, and of the reconstructions to keep."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from atat_ray.inversion.budget import Budget
from atat_ray.inversion.interface import Scope
from atat_ray.inversion.random_crops import random_resized_crop
from atat_ray.inversion.smoothing import logits_of
from atat_ray.priors import Prior
from atat_ray.utils.seeding import BatchDraws, generator

SCORING_BATCH = 256  # samples in memory at a time


@torch.no_grad()
def initial_candidates(
    target: nn.Module,
    synthesize: Callable[[Tensor], Tensor],
    latents: Tensor,
    num_candidates: int,
    draws: BatchDraws,
) -> Tensor:
    """Choose for each class the latents whose images have the highest target confidence.

    The score is the mean probability of the class on an image and its mirror image (PPA, Sec. 3.2).

    Args:
        target: images to (N, C) logits, in evaluation mode.
        synthesize: latents (N, D) to images in [0, 1].
        latents: (N, D) to choose from; one latent may be chosen for several classes.
        num_candidates: latents chosen for each class.
        draws: random draws of a smoothed network.

    Returns:
        (C, num_candidates) rows of ``latents``, best first.
    """
    scores = []
    for batch in latents.split(SCORING_BATCH):
        images = synthesize(batch)
        views = (images, images.flip(3))
        first, second = (logits_of(target, view, draws).softmax(1) for view in views)
        scores.append(first + second)
    return torch.cat(scores).topk(num_candidates, dim=0).indices.T


def starting_latents(
    target: nn.Module, prior: Prior, scope: Scope, budget: Budget, name: str = "samples"
) -> Tensor:
    """Draw the same samples for every class and choose the candidates of a part's classes.

    Returns:
        (len(part) * candidates, D), classes in order, best first within a class.
    """
    latents = prior.sample_latents(budget.samples, generator(scope.seed, name)).to(scope.device)
    if budget.latent_limit is not None:
        latents = latents.clamp(-budget.latent_limit, budget.latent_limit)
    if name not in scope.shared:
        scope.shared[name] = initial_candidates(
            target, prior.synthesize, latents, budget.candidates,
            BatchDraws(generator(scope.seed, name, "smoothing")),
        )  # fmt: skip
    return latents[scope.shared[name][list(scope.part)].flatten()]


@torch.no_grad()
def robust_confidence(
    target: nn.Module,
    images: Tensor,
    classes: Tensor,
    draws: BatchDraws,
    *,
    views: int,
    area: tuple[float, float],
    ratio: tuple[float, float],
) -> Tensor:
    """Score images by the mean probability of their class over random crops and flips, (N,).

    This is PPA's final selection (Sec. 3.4): such views lower the score of reconstructions that are
    adversarial examples of the target model.
    """
    total = torch.zeros(len(images), device=images.device)
    for _ in range(views):
        crops = random_resized_crop(images, draws, area=area, ratio=ratio, flip=True)
        total += logits_of(target, crops, draws).softmax(1).gather(1, classes[:, None]).squeeze(1)
    return total / views


def most_confident(
    target: nn.Module, images: Tensor, scope: Scope, budget: Budget, name: str = "views"
) -> tuple[Tensor, Tensor]:
    """Find the ``keep`` candidates of each class with the highest robust confidence.

    Args:
        target: images to (N, C) logits, in evaluation mode.
        images: (len(part) * candidates, channels, H, W), classes in order.
        scope: attacked classes.
        budget: numbers of views and of kept candidates.
        name: name of the draws.

    Returns:
        Rows (len(part) * keep,) of ``images``, classes in order and best first within a class; and
        their scores.
    """
    count = budget.candidates
    classes = scope.labels(count)
    score = torch.cat(
        [
            robust_confidence(
                target, images[rows], classes[rows], scope.draws(name, count, rows),
                views=budget.views, area=budget.view_area, ratio=budget.view_ratio,
            )
            for rows in scope.batches(count, budget.batch)
        ]
    )  # fmt: skip
    order = score.view(-1, count).argsort(dim=1, descending=True, stable=True)
    first = torch.arange(len(order), device=order.device)[:, None] * count
    kept = (order[:, : budget.keep] + first).flatten()
    return kept, score[kept]


@torch.no_grad()
def confidence(
    target: nn.Module, images: Tensor, scope: Scope, budget: Budget, name: str = "confidence"
) -> Tensor:
    """Compute the attacked network's probability of the class of each kept image, (N,).

    Args:
        target: images to (N, C) logits, in evaluation mode.
        images: (len(part) * keep, channels, H, W), classes in order.
        scope: attacked classes.
        budget: numbers of kept images and of images in memory at a time.
        name: name of the draws.
    """
    logits = torch.cat(
        [
            logits_of(target, images[rows], scope.draws(name, budget.keep, rows))
            for rows in scope.batches(budget.keep, budget.batch)
        ]
    )
    return logits.softmax(1).gather(1, scope.labels(budget.keep)[:, None]).flatten()
