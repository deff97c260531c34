"""Priors whose intermediate features an inversion attack may optimise too."""

from torch import Tensor

from atat_ray.priors.base import Prior

# What decides the images from a stage on; every tensor is (N, ...), a row an image.
State = tuple[Tensor, ...]


class StagedPrior(Prior):
    """A prior that makes images in stages, as IF-GMI (Qiu et al. 2024) needs.

    ``finish(advance(state, k), k + 1)`` equals ``finish(state, k)``, bit for bit.

    The first tensor of a state holds what a latent still says of its image, its styles; from stage
    1 on the second holds features, and what follows is carried along.

    Attributes:
        num_stages: S; states are numbered 0..S, and that of stage S is the last before the images.
    """

    num_stages: int

    def begin(self, latents: Tensor) -> State:
        """Turn latents (N, D) into the state of stage 0, differentiably."""
        raise NotImplementedError

    def advance(self, state: State, stage: int) -> State:
        """Turn a state of ``stage`` < S into the state of ``stage + 1``, differentiably."""
        raise NotImplementedError

    def finish(self, state: State, stage: int) -> Tensor:
        """Turn a state of ``stage`` into images (N, C, H, W) in [0, 1], differentiably."""
        raise NotImplementedError

    def synthesize(self, latents: Tensor) -> Tensor:
        """Turn latents (N, D) into images (N, C, H, W) in [0, 1], differentiably."""
        return self.finish(self.begin(latents), 0)
