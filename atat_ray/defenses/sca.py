"""SCA: train the network behind two layers of sparse coding."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor, nn

from atat_ray.data import Faces
from atat_ray.defenses.sparse_standard import check_coding, widen_first
from atat_ray.models.layer_access import FrontEnd, unwrap
from atat_ray.models.sparse_layers import SparseLayers
from atat_ray.training.interface import Defense, LossTerms
from atat_ray.training.no_defense import NoDefense
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import BatchDraws, generator, seeded


@dataclass(frozen=True, kw_only=True, slots=True)
class Sca(Defense):
    """Options of the sparse coding architecture; the defaults are those of the published code.

    Attributes:
        threshold: of the codes of both layers; 0.1 to 1.5 in the published code.
        atoms: number of atoms of the first and the second layer.
        tau: divisor of the steps; use more for large dictionaries.
        iterations: of the locally competitive algorithm, of which the last changes no code.
        dropout: share of the codes that is set to 0 in training.
    """

    threshold: float
    atoms: tuple[int, int] = (16, 32)
    tau: float = 100.0
    iterations: int = 500
    dropout: float = 0.09

    summary: ClassVar[str] = "plain training on sparse codes of sparse codes of the images"
    source: ClassVar[str] = "Dibbo et al., Improving robustness ... sparse coding, ECCV 2024"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"reference": {"threshold": 0.1}}
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        check_coding(self.threshold, self.tau, self.iterations)
        if len(self.atoms) != 2 or min(self.atoms) < 1:
            raise ValueError(
                f"atoms must be two counts, each 1 or more, one for each layer, got "
                f"{list(self.atoms)}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a share in [0, 1), got {self.dropout:g}")

    def minimal(self) -> "Sca":
        """Return options with two iterations, for a rehearsal."""
        return replace(self, iterations=2)

    def prepare(self, model: nn.Module, *, public: Faces | None, seed: int) -> nn.Module:
        """Add two layers of sparse coding before the network, for the channels of its images.

        The network's own normalisation of images to [-1, 1] is removed, because the layers end in
        batch normalisation.
        """
        channels = getattr(model, "channels", 1)
        front = SparseLayers(
            channels=channels,
            atoms=self.atoms,
            threshold=self.threshold,
            tau=self.tau,
            iterations=self.iterations,
            dropout=self.dropout,
            generator=generator(seed, "dictionary"),
        )
        with seeded(seed):
            widen_first(model, self.atoms[1], channels, "sca")
        model.normalize = nn.Identity()
        return FrontEnd(front, model)

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute CE(f(codes of codes of x), y)."""
        front = getattr(unwrap(model), "front", None)
        if not isinstance(front, SparseLayers):
            raise ValueError(
                "sca needs a model that it prepared; call its prepare method before training"
            )
        with front.drawing(draws):
            return NoDefense().loss(model, images, labels, draws)
