"""Interface of a prior, and of the options from which a prior is fitted or read."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn


class Prior(nn.Module, ABC):
    """Image generator with a standard Gaussian latent space.

    A prior holds tensors and nothing else that changes, so ``saved`` describes it completely.

    Attributes:
        name: name of this kind of prior in protocols.
        latent_dim: D, number of coordinates of a latent.
        rows_at_once: images whose intermediate results a backward pass holds at a time; all if
            None.
    """

    name: ClassVar[str]
    latent_dim: int
    rows_at_once: int | None = None

    def sample_latents(self, num: int, generator: torch.Generator) -> Tensor:
        """Draw latents (num, D) from N(0, 1) on the CPU and move them to the prior's device."""
        latents = torch.randn(num, self.latent_dim, generator=generator)
        return latents.to(next(self.buffers()).device)

    def saved(self) -> dict[str, Any]:
        """Return what ``restore`` needs: here the constructor's tensors, on the CPU."""
        return {name: tensor.cpu() for name, tensor in self.state_dict().items()}

    @classmethod
    def restore(cls, saved: dict[str, Any], file: Path | None) -> Self:
        """Build the prior that ``saved`` describes.

        Args:
            saved: return value of ``saved``.
            file: weights file of a prior that was read from one; unused by fitted priors.

        Raises:
            ValueError: the file is missing or is not the one that ``saved`` names.
        """
        return cls(**saved)

    def weights(self) -> list[Tensor]:
        """List the tensors that PPDG may tune in place; empty unless a subclass names some."""
        return []

    @abstractmethod
    def render(self, latents: Tensor) -> Tensor:
        """Map latents (N, D) to images (N, C, H, W), differentiably.

        Values are not clamped to [0, 1], because a clamped pixel has no gradient.
        """

    def synthesize(self, latents: Tensor) -> Tensor:
        """Map latents (N, D) to images (N, C, H, W) in [0, 1], differentiably."""
        return self.render(latents).clamp(0, 1)


class PriorOptions(ABC):
    """Options of a prior in a protocol; a subclass is a frozen dataclass.

    A fitted prior defines ``kind`` and ``fit``. A prior that is read from a file overrides
    ``file``, ``check`` and ``stand_in`` as well.

    Attributes:
        kind: class of the prior that ``fit`` returns.
        needs_public: whether fitting uses the content of public images.
        offers: what an attack may require of the prior: "stages" (a ``StagedPrior``), "weights"
            (tensors that can be tuned).
    """

    __slots__ = ()
    kind: ClassVar[type[Prior]]
    needs_public: ClassVar[bool] = True
    offers: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def fit(self, public_images: Tensor, generator: torch.Generator) -> Prior:
        """Fit a prior to public images (N, C, H, W) in [0, 1]."""

    def file(self) -> Path | None:
        """Return the path of the weights file; None for a prior that is fitted."""
        return None

    def check(self) -> None:  # noqa: B027 - a prior without a file has nothing to check
        """Check that the weights file is usable before a campaign starts.

        Raises:
            ValueError: it is missing or has another hash; the message says what to do.
        """

    def stand_in(self, folder: Path, *, narrow: bool) -> tuple[Self, str]:
        """Return options that a rehearsal can use although the weights file is missing.

        Args:
            folder: where a stand-in for the file is written.
            narrow: whether the stand-in has few channels, for a CPU.

        Returns:
            These options and an empty note if nothing is missing, else other options and a note
            that says what replaces what.
        """
        return self, ""
