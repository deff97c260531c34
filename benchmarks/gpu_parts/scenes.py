"""Networks, faces and priors of the sizes that are measured; all weights and pixels are random."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from atat_ray.data import Faces
from atat_ray.defenses.anti_adversarial import AntiAdversarial
from atat_ray.models import build_target
from atat_ray.priors.stylegan2.framing import Settings
from atat_ray.priors.stylegan2.networks import Generator, Shape
from atat_ray.priors.stylegan2.prior import StyleGan2Prior
from atat_ray.priors.warped import NUM_KNOTS, WarpedPrior
from atat_ray.training import Training
from atat_ray.training.interface import Defense
from atat_ray.training.loop import Loop
from atat_ray.utils.seeding import generator, seeded
from gpu_parts.sizes import Network

# Of facescrub-rct, in pixel units.
ATAT: dict[str, Any] = {
    "weight": 0.08, "epsilon": 0.00025, "steps": 5, "step_size": 0.00005, "random_start": True,
}  # fmt: skip


def atat(**options: Any) -> AntiAdversarial:
    """Return AT-AT with the options of facescrub-rct, some of them replaced."""
    return AntiAdversarial(**{**ATAT, **options})


def make_faces(network: Network, device: torch.device, *, classes: int, count: int = 0) -> Faces:
    """Draw images in [0.1, 0.9], so that no perturbation is clipped, and labels."""
    count = count or network.batch
    shape = (count, network.channels, network.side, network.side)
    images = torch.rand(shape, generator=generator("faces")) * 0.8 + 0.1
    return Faces(images=images, labels=torch.arange(count) % classes).to(device)


def make_target(network: Network, device: torch.device, *, classes: int) -> nn.Module:
    """Build a target model with random weights; the same seed gives the same weights."""
    model = build_target(
        network.architecture, num_classes=classes, channels=network.channels, seed=0
    )
    return model.to(device)


def make_loop(
    model: nn.Module, faces: Faces, defense: Defense, *, steps: int = 1000, **options: Any
) -> Loop:
    """Begin a training whose schedule has at least ``steps`` steps."""
    batch = options.pop("batch", len(faces))
    per_epoch = len(faces) // batch
    training = Training(
        epochs=-(-steps // per_epoch), batch_size=batch, learning_rate=0.001, weight_decay=0.0,
        **options,
    )  # fmt: skip
    return Loop(model.train(), faces, defense, training, seed=0)


def step_of(loop: Loop) -> Callable[[], dict[str, Tensor]]:
    """Return one step of a training on its first batch."""
    rows = torch.arange(loop.training.batch_size)
    return lambda: loop.step(rows)


def make_prior(
    shape: Shape, device: torch.device, *, size: int, crop: int | None, batch: int = 8
) -> StyleGan2Prior:
    """Build a StyleGAN2 prior with random weights, framed for images of ``size`` pixels."""
    with seeded(0):
        network = Generator(shape)
    settings = Settings(psi=0.5, crop=crop, size=size, batch=batch)
    return StyleGan2Prior(network, settings).to(device)


def make_warped(device: torch.device, *, size: int) -> WarpedPrior:
    """Build a warped prior of the embedded trial's dimensions with random textures and flows."""
    draws = generator("warped")
    knots = (2, NUM_KNOTS, NUM_KNOTS)
    return WarpedPrior(
        texture_mean=torch.rand(1, size, size, generator=draws),
        texture_basis=torch.randn(100, 1, size, size, generator=draws) * 0.02,
        flow_mean=torch.zeros(knots),
        flow_basis=torch.randn(30, *knots, generator=draws) * 0.01,
    ).to(device)
