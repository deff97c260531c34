"""CUDA graphs of the inner steps of training and attack, behind one function that falls back."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from atat_ray.data.augmentation import resample
from atat_ray.defenses.anti_adversarial import AntiAdversarial
from atat_ray.defenses.decoys import decoy_loss
from atat_ray.inversion.losses import LOSSES
from atat_ray.inversion.optimization import Synthesize, adam
from atat_ray.inversion.ppa import Ppa
from atat_ray.inversion.random_crops import draw_crops
from atat_ray.models.batch_norm_modes import STATISTICS, frozen_parameters
from atat_ray.priors import State
from atat_ray.robustness.pgd import project, sign_step
from atat_ray.training.interface import Defense, LossTerms, Session
from atat_ray.utils.seeding import BatchDraws

WARM_UP = 3  # calls before the capture, in which libraries choose their workspaces


def graphed(function: Callable[..., Tensor], *inputs: Tensor) -> Callable[..., Tensor]:
    """Return a function that replays a CUDA graph of ``function``; without a GPU, ``function``.

    The returned function takes tensors of the same shapes. It returns the same memory each time.
    ``function`` must not draw numbers on the CPU, wait for the GPU, or keep its results.
    """
    if not inputs[0].is_cuda:
        return function
    fixed = [tensor.detach().clone() for tensor in inputs]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            function(*fixed)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function(*fixed)

    def replay(*new: Tensor) -> Tensor:
        with torch.no_grad():
            for old, tensor in zip(fixed, new, strict=True):
                old.copy_(tensor)
        graph.replay()
        return result

    return replay


class GraphedAtat(Session):
    """AT-AT whose K inner steps are one CUDA graph; the loss is that of the defense."""

    def __init__(self, defense: AntiAdversarial) -> None:
        super().__init__(defense)
        self.options = defense
        self.inner: Callable[..., Tensor] | None = None

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute the loss of a batch; the first call captures the graph."""
        options = self.options

        def steps(perturbed: Tensor, images: Tensor, decoys: Tensor) -> Tensor:
            with STATISTICS[options.inner_statistics](model), frozen_parameters(model):
                for _ in range(options.steps):
                    perturbed = sign_step(
                        model, perturbed, decoys, images, options.epsilon, -options.step_size
                    )
            return perturbed.detach()

        def perturb(images: Tensor, decoys: Tensor) -> Tensor:
            start = images
            if options.random_start:
                noise = draws.uniform(-options.epsilon, options.epsilon, images, *images.shape[1:])
                start = project(images + noise, images, options.epsilon)
            if self.inner is None:
                self.inner = graphed(steps, start, images, decoys)
            return self.inner(start, images, decoys)

        return decoy_loss(
            model, images, labels, weight=options.weight, perturb=perturb, draws=draws,
            decoys=options.decoys, adversarial_pass=options.adversarial_pass,
        )  # fmt: skip


def graphed_ppa_step(
    target: nn.Module, synthesize: Synthesize, state: State, classes: Tensor, ppa: Ppa,
    draws: BatchDraws,
) -> Callable[[], None]:  # fmt: skip
    """Return a step of PPA whose forward and backward passes are one CUDA graph."""
    optimizer = adam(state, [ppa.learning_rate], ppa)

    def gradient(searched: Tensor, crops: Tensor) -> Tensor:
        searched = searched.detach().requires_grad_()
        images = resample(synthesize((searched,)), crops)
        loss = LOSSES[ppa.loss](target(images), classes).sum()
        return torch.autograd.grad(loss, searched)[0]

    replay: Callable[..., Tensor] | None = None

    def step() -> None:
        nonlocal replay
        crops = draw_crops(classes, draws, area=ppa.crop_area)  # one for each row
        if replay is None:
            replay = graphed(gradient, state[0], crops)
        state[0].grad = replay(state[0], crops)
        optimizer.step()

    return step


class Graphed(Defense):
    """AT-AT in a session that replays its inner steps."""

    def __init__(self, defense: AntiAdversarial) -> None:
        self.defense = defense

    def begin(self, model: nn.Module, course: object) -> Session:
        """Begin a training with :class:`GraphedAtat`."""
        return GraphedAtat(self.defense)

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute the loss without a graph."""
        return self.defense.loss(model, images, labels, draws)
