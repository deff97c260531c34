"""SCA: train the network on sparse codes of the image instead of the image."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from atat_ray.data import Faces
from atat_ray.models.layer_access import FrontEnd, unwrap
from atat_ray.models.sparse_coding import SparseCoding
from atat_ray.training.all_workers import mean_over_workers
from atat_ray.training.interface import Course, Defense, LossTerms, Session
from atat_ray.training.no_defense import NoDefense
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import BatchDraws, generator, seeded


def widen_first(body: nn.Module, atoms: int, channels: int) -> None:
    """Make the first convolution of a network take ``atoms`` channels for ``channels``, in place.

    Raises:
        ValueError: the network has no convolution.
    """
    for parent in body.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d):
                wide = type(child)(
                    child.in_channels * atoms // channels,
                    child.out_channels,
                    child.kernel_size,  # type: ignore[arg-type]
                    child.stride,  # type: ignore[arg-type]
                    child.padding,  # type: ignore[arg-type]
                    bias=child.bias is not None,
                )
                setattr(parent, name, wide)
                return
    raise ValueError(
        f"sca needs a convolutional network, got {type(body).__name__}; choose another architecture"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Sca(Defense):
    """Options of the sparse coding architecture.

    Attributes:
        threshold: of the codes; a larger threshold gives sparser codes.
        atoms: number of atoms of the dictionary; the network sees one channel for each.
        kernel: side of the atoms in pixels.
        stride: distance between codes in pixels.
        tau: divisor of the steps; use more for large dictionaries.
        iterations: of the locally competitive algorithm.
        dictionary_rate: rate of Hebbian learning after each step; 0 keeps the random dictionary.
    """

    threshold: float
    atoms: int = 6
    kernel: int = 4
    stride: int = 2
    tau: float = 5.0
    iterations: int = 10
    dictionary_rate: float = 0.01

    summary: ClassVar[str] = "plain training on sparse codes of the images"
    source: ClassVar[str] = "Dibbo et al., Improving robustness ... sparse coding, ECCV 2024"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "reference": {
            "threshold": 0.25,
            "atoms": 3,
            "kernel": 7,
            "stride": 1,
            "tau": 100.0,
            "iterations": 1000,
            "dictionary_rate": 0.0,
        }
    }
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        for name in ("atoms", "kernel", "stride", "iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.kernel < self.stride:
            raise ValueError(
                f"kernel must be at least the stride, got {self.kernel} and {self.stride}"
            )
        if not self.threshold > 0 or not self.tau >= 1 or not self.dictionary_rate >= 0:
            raise ValueError(
                "threshold must be above 0, tau 1 or more and dictionary_rate 0 or more, got "
                f"{self.threshold:g}, {self.tau:g} and {self.dictionary_rate:g}"
            )

    def prepare(self, model: nn.Module, *, public: Faces | None, seed: int) -> nn.Module:
        """Add sparse coding before the network, for the channels of its images."""
        channels = getattr(model, "channels", 1)
        front = SparseCoding(
            channels=channels,
            atoms=self.atoms,
            kernel=self.kernel,
            stride=self.stride,
            threshold=self.threshold,
            tau=self.tau,
            iterations=self.iterations,
            generator=generator(seed, "dictionary"),
        )
        with seeded(seed):
            widen_first(model, self.atoms, channels)
        return FrontEnd(front, model)

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute CE(f(codes of x), y)."""
        return NoDefense().loss(model, images, labels, draws)

    def begin(self, model: nn.Module, course: Course) -> Session:
        """Begin a training in which the dictionary is learned as well."""
        size = course.faces.images.shape[-1]
        if size % self.stride:
            raise ValueError(
                f"the stride of sca must divide the size of the images, got {self.stride} and "
                f"{size}; choose another stride"
            )
        return ScaSession(self, model)


class ScaSession(Session):
    """A training in which the dictionary is updated after each step."""

    def __init__(self, defense: Sca, model: nn.Module) -> None:
        super().__init__(defense)
        front = getattr(unwrap(model), "front", None)
        if not isinstance(front, SparseCoding):
            raise ValueError(
                "sca needs a model that it prepared; call its prepare method before training"
            )
        self.front = front
        self.rate = defense.dictionary_rate
        self.draws: BatchDraws | None = None

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute the loss of a batch."""
        self.draws = draws
        return super().loss(model, images, labels, draws)

    def after_step(self) -> None:
        """Update the dictionary from the codes of the batch."""
        if self.rate > 0:
            assert self.draws is not None
            change, energy = self.front.change()
            mean_over_workers([change, energy], self.draws)
            self.front.learn(change, energy, self.rate)
