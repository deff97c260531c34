"""Inner loop of every inversion attack: Adam on the input of a prior."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from atat_ray.inversion.budget import Budget
from atat_ray.inversion.interface import Scope
from atat_ray.inversion.losses import LOSSES
from atat_ray.inversion.random_crops import random_resized_crop
from atat_ray.inversion.smoothing import logits_of
from atat_ray.priors import Prior, StagedPrior, State, priors_offering
from atat_ray.utils.seeding import BatchDraws

Synthesize = Callable[[State], Tensor]
"""Maps a state to images (N, channels, H, W), not clamped to [0, 1]."""
Project = Callable[[State, State], None]
"""Projects a state onto the feasible set, in place; its second argument is the initial state."""


def clamp_first(limit: float | None) -> Project:
    """Make the projection that clamps the first tensor of a state to [-limit, limit]."""

    def project(state: State, start: State) -> None:
        if limit is not None:
            state[0].clamp_(-limit, limit)

    return project


def first_state(prior: Prior, latents: Tensor, space: str) -> tuple[State, Synthesize]:
    """Return the state that is searched first, and the function from it to images.

    Args:
        prior: prior to search.
        latents: (N, D).
        space: one of SPACES; "styles" are what a staged prior computes from latents, PPA's w.

    Raises:
        ValueError: the prior has no styles.
    """
    if space == "latents":
        return (latents,), lambda state: prior.render(state[0])
    staged = require_stages(prior, "space: styles")
    with torch.no_grad():
        state = staged.begin(latents)
    return state, lambda state: staged.finish(state, 0)


def require_stages(prior: Prior, user: str) -> StagedPrior:
    """Return the prior if it has stages.

    Args:
        prior: prior to search.
        user: what needs the stages, for the message.

    Raises:
        ValueError: it has none.
    """
    if not isinstance(prior, StagedPrior):
        raise ValueError(
            f"{user} needs a prior with stages, got {prior.name}; "
            f"choose {' or '.join(priors_offering('stages'))}"
        )
    return prior


def minimize(
    target: nn.Module,
    synthesize: Synthesize,
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
    """Minimise the loss over the first tensors of a state with Adam, each candidate by itself.

    Args:
        target: images to (N, C) logits, in evaluation mode.
        synthesize: state to images.
        state: rows of all candidates of the part, classes in order.
        scope: classes to attack.
        budget: number of candidates, loss, crops.
        steps: number of steps of a new Adam.
        rates: learning rate of each searched tensor; the tensors after these are constant.
        project: projection applied after every step.
        milestones: steps at which the learning rates are divided by ten.
        name: name of the draws.
    """
    classes, parts = scope.labels(budget.candidates), []
    for rows in scope.batches(budget.candidates, budget.batch):
        draws = scope.draws(name, budget.candidates, rows)
        current = tuple(tensor[rows].clone() for tensor in state)
        start = tuple(tensor[rows] for tensor in state)
        optimizer = adam(current, rates, budget)
        for step in range(steps):
            if step in milestones:
                for group in optimizer.param_groups:
                    group["lr"] /= 10
            take_step(target, synthesize, current, classes[rows], budget, draws, optimizer)
            with torch.no_grad():
                project(current, start)
        parts.append(tuple(tensor.detach() for tensor in current))
    return tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))


def adam(state: State, rates: Sequence[float], budget: Budget) -> torch.optim.Adam:
    """Make the optimiser of the searched tensors: one learning rate for each."""
    searched = [tensor.requires_grad_() for tensor in state[: len(rates)]]
    groups = [{"params": [t], "lr": rate} for t, rate in zip(searched, rates, strict=True)]
    return torch.optim.Adam(groups, lr=budget.learning_rate, betas=budget.betas)


def take_step(
    target: nn.Module,
    synthesize: Synthesize,
    state: State,
    classes: Tensor,
    budget: Budget,
    draws: BatchDraws,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Take one step of all candidates at once; gradients of weights are not computed."""
    images = budget.searched(synthesize(state))
    images = random_resized_crop(images, draws, area=budget.crop_area)
    loss = LOSSES[budget.loss](logits_of(target, images, draws), classes).sum()
    searched = [tensor for tensor in state if tensor.requires_grad]
    # Materialised: the images of a later stage no longer depend on some tensors.
    gradients = torch.autograd.grad(loss, searched, materialize_grads=True)
    for tensor, gradient in zip(searched, gradients, strict=True):
        tensor.grad = gradient
    optimizer.step()
