"""The inner loop of every inversion attack: Adam on what a prior makes its images of."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from atat_ray.inversion.budget import Budget
from atat_ray.inversion.interface import Scope
from atat_ray.inversion.losses import LOSSES
from atat_ray.inversion.random_crops import random_resized_crop
from atat_ray.priors import Prior, StagedPrior, State
from atat_ray.utils.seeding import BatchDraws

Make = Callable[[State], Tensor]
"""Turns a state into images (N, channels, H, W) in [0, 1]."""
Project = Callable[[State, State], None]
"""Moves a state, in place, to where it may be; it is told the state of the start too."""


def clamp_first(limit: float | None) -> Project:
    """Make the projection that clamps the first tensor of a state to [-limit, limit]."""

    def project(state: State, start: State) -> None:
        if limit is not None:
            state[0].clamp_(-limit, limit)

    return project


def first_state(prior: Prior, latents: Tensor, space: str) -> tuple[State, Make]:
    """Give the state that is searched first, and how images are made of it.

    Args:
        prior: to search.
        latents: (N, D).
        space: a key of SPACES; "styles" is what a staged prior makes of latents, PPA's w.

    Raises:
        ValueError: the prior has no styles.
    """
    if space == "latents":
        return (latents,), lambda state: prior.synthesize(state[0])
    staged = needs_stages(prior, "space: styles")
    with torch.no_grad():
        state = staged.begin(latents)
    return state, lambda state: staged.finish(state, 0)


def needs_stages(prior: Prior, what: str) -> StagedPrior:
    """Refuse a prior that has no stages.

    Raises:
        ValueError: it has none.
    """
    if not isinstance(prior, StagedPrior):
        raise ValueError(
            f"{what} needs a prior with stages, got {prior.name}; choose stylegan2 or warped"
        )
    return prior


def descend(
    target: nn.Module,
    make: Make,
    state: State,
    scope: Scope,
    budget: Budget,
    *,
    steps: int,
    rates: Sequence[float],
    project: Project,
    milestones: Sequence[int] = (),
    name: str = "steps",
) -> State:
    """Minimise the loss over the first tensors of a state with Adam, each candidate for itself.

    Args:
        target: images to (N, C) logits, in evaluation mode.
        make: images of a state.
        state: rows of all candidates of the part, classes in order.
        scope: the classes.
        budget: candidates, loss, transforms.
        steps: of Adam, which starts afresh.
        rates: learning rate of each tensor that is searched; those after them are carried along.
        project: applied after every step.
        milestones: steps at which the learning rates fall to a tenth.
        name: of the draws.
    """
    classes, parts = scope.labels(budget.candidates), []
    for rows in scope.batches(budget.candidates, budget.batch):
        draws = scope.draws(name, budget.candidates, rows)
        some = tuple(tensor[rows].clone() for tensor in state)
        start = tuple(tensor[rows] for tensor in state)
        optimizer = adam(some, rates, budget)
        for step in range(steps):
            if step in milestones:
                for group in optimizer.param_groups:
                    group["lr"] /= 10
            take_step(target, make, some, classes[rows], budget, draws, optimizer)
            with torch.no_grad():
                project(some, start)
        parts.append(tuple(tensor.detach() for tensor in some))
    return tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))


def adam(state: State, rates: Sequence[float], budget: Budget) -> torch.optim.Adam:
    """Make the optimiser of the tensors that are searched."""
    searched = [tensor.requires_grad_() for tensor in state[: len(rates)]]
    groups = [{"params": [t], "lr": rate} for t, rate in zip(searched, rates, strict=True)]
    return torch.optim.Adam(groups, lr=budget.learning_rate, betas=budget.betas)


def take_step(
    target: nn.Module,
    make: Make,
    state: State,
    classes: Tensor,
    budget: Budget,
    draws: BatchDraws,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Take one step of all candidates at once; no gradient of any weight is computed."""
    images = random_resized_crop(make(state), draws, area=budget.crop_area)
    loss = LOSSES[budget.loss](target(images), classes).sum()
    searched = [tensor for tensor in state if tensor.requires_grad]
    # Zeros, where a tensor has no say in the images any more.
    gradients = torch.autograd.grad(loss, searched, materialize_grads=True)
    for tensor, gradient in zip(searched, gradients, strict=True):
        tensor.grad = gradient
    optimizer.step()
