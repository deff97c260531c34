"""Last layer with a variational information bottleneck."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from atat_ray.utils.seeding import BatchDraws, derive_seed

OFFSET = 5.0  # subtracted before softplus, so that the standard deviation starts near 0


class Bottleneck(nn.Module):
    """Map features to logits through a Gaussian code: ``Linear(mu + sigma n)``, n ~ N(0, 1)."""

    def __init__(self, inputs: int, codes: int, outputs: int, *, seed: int, always: bool) -> None:
        super().__init__()
        self.encode = nn.Linear(inputs, 2 * codes)
        self.decode = nn.Linear(codes, outputs)
        self.always = always
        self.generator = torch.Generator().manual_seed(seed)
        self.draws: BatchDraws | None = None

    @property
    def out_features(self) -> int:
        """Count the logits."""
        return self.decode.out_features

    def moments(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Split an output of ``encode``, (N, 2k), into mean and standard deviation, (N, k) each."""
        mean, spread = encoded.chunk(2, dim=1)
        return mean, softplus(spread - OFFSET)

    @contextmanager
    def drawing(self, draws: BatchDraws) -> Iterator[None]:
        """Draw the noise from ``draws`` inside the block."""
        self.draws = draws
        try:
            yield
        finally:
            self.draws = None

    def noise(self, like: Tensor) -> Tensor:
        """Draw standard normal noise by the Box-Muller transform of uniform numbers."""
        draws = self.draws or BatchDraws(self.generator)
        radius, angle = draws.uniform(0.0, 1.0, like, 2, like.shape[1]).unbind(1)
        return (-2 * (1 - radius).log()).sqrt() * (2 * torch.pi * angle).cos()

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, inputs) to (N, outputs), with noise in training or if ``always``."""
        mean, sigma = self.moments(self.encode(features))
        if self.training or self.always:
            mean = mean + sigma * self.noise(mean)
        return self.decode(mean)


def bottlenecks(model: nn.Module) -> list[Bottleneck]:
    """List the bottlenecks of a model that draw noise in evaluation mode."""
    return [m for m in model.modules() if isinstance(m, Bottleneck) and m.always]


def draws_noise(model: nn.Module) -> bool:
    """Tell whether a model draws noise in evaluation mode."""
    return bool(bottlenecks(model))


def reseed(model: nn.Module, *names: str | int) -> None:
    """Reseed the noise that a model draws in evaluation mode, with a seed derived from names.

    Called at the start of a piece of work, it makes the result a function of the names, whatever
    the process did before.
    """
    for bottleneck in bottlenecks(model):
        bottleneck.generator.manual_seed(derive_seed(*names))
