"""Interface of a prior whose intermediate features an inversion attack can optimise."""

from abc import abstractmethod

from torch import Tensor

from atat_ray.priors.base import Prior

State = tuple[Tensor, ...]
"""Tensors that determine the images from a stage on; each is (N, ...), one row an image."""


class StagedPrior(Prior):
    """A prior that generates images in stages, as IF-GMI (Qiu et al. 2024) requires.

    ``finish(advance(state, k), k + 1)`` equals ``finish(state, k)``, bit for bit.

    The first tensor of a state holds the styles, which depend on the latents only. From stage 1 on
    the second tensor holds features; further tensors are passed on unchanged by an attack.

    Attributes:
        num_stages: S; states are numbered 0..S, and state S is the last before the images.
    """

    num_stages: int

    @abstractmethod
    def begin(self, latents: Tensor) -> State:
        """Map latents (N, D) to the state of stage 0, differentiably."""

    @abstractmethod
    def advance(self, state: State, stage: int) -> State:
        """Map a state of ``stage`` < S to the state of ``stage + 1``, differentiably."""

    @abstractmethod
    def finish(self, state: State, stage: int) -> Tensor:
        """Map a state of ``stage`` to images (N, C, H, W), not clamped, differentiably."""

    def render(self, latents: Tensor) -> Tensor:
        """Map latents (N, D) to images (N, C, H, W), not clamped, differentiably."""
        return self.finish(self.begin(latents), 0)

    def whole(self, state: State) -> Tensor:
        """Map a state of stage 0 to images as they are before they are cropped and resized.

        The images of a prior that does neither are those of ``finish``.
        """
        return self.finish(state, 0)
