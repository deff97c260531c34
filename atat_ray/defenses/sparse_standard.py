"""Sparse-Standard: train the network on sparse codes of the image instead of the image.

This is the baseline of one layer to which SCA is compared; see :mod:`atat_ray.defenses.sca`.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor, nn

from atat_ray.data import Faces
from atat_ray.models.layer_access import FrontEnd, unwrap
from atat_ray.models.sparse_coding import SparseCoding, check_tau, largest_gain
from atat_ray.training.all_workers import mean_over_workers
from atat_ray.training.interface import Course, Defense, LossTerms, Session
from atat_ray.training.no_defense import NoDefense
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import BatchDraws, generator, seeded


def widen_first(body: nn.Module, atoms: int, channels: int, defense: str) -> None:
    """Make the first convolution of a network take ``atoms`` channels for ``channels``, in place.

    Args:
        body: the network.
        atoms: number of channels that the convolution will take.
        channels: number of channels that it takes.
        defense: name for the error message.

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
        f"{defense} needs a convolutional network, got {type(body).__name__}; choose another "
        "architecture"
    )


def check_coding(threshold: float, tau: float, iterations: int) -> None:
    """Refuse options of sparse coding that give no codes.

    Raises:
        ValueError: an option is out of range; the message says what is allowed.
    """
    if not threshold > 0:
        raise ValueError(f"threshold must be above 0, got {threshold:g}")
    if not tau >= 1:
        raise ValueError(f"tau must be 1 or more, got {tau:g}")
    if iterations < 2:
        raise ValueError(
            f"iterations must be 2 or more, got {iterations}; the codes of the first are all 0"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseStandard(Defense):
    """Options of one layer of sparse coding before a network.

    Attributes:
        threshold: of the codes; a larger threshold gives sparser codes.
        atoms: number of atoms of the dictionary; the network sees one channel for each.
        kernel: side of the atoms in pixels.
        stride: distance between codes in pixels.
        tau: divisor of the steps; use more for large dictionaries.
        iterations: of the locally competitive algorithm, of which the last changes no code.
        dictionary_rate: rate of Hebbian learning after each step; 0 keeps the random dictionary.
    """

    threshold: float
    atoms: int = 6
    kernel: int = 4
    stride: int = 2
    tau: float = 5.0
    iterations: int = 11
    dictionary_rate: float = 0.0

    summary: ClassVar[str] = "plain training on one layer of sparse codes, the baseline of sca"
    source: ClassVar[str] = "Teti et al., LCANets: lateral competition improves ..., ICML 2022"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "reference": {
            "threshold": 0.25,
            "atoms": 3,
            "kernel": 7,
            "stride": 1,
            "tau": 100.0,
            "iterations": 1000,
        }
    }
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        check_coding(self.threshold, self.tau, self.iterations)
        for name in ("atoms", "kernel", "stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.kernel < self.stride:
            raise ValueError(
                f"kernel must be at least the stride, got {self.kernel} and {self.stride}"
            )
        if not self.dictionary_rate >= 0:
            raise ValueError(f"dictionary_rate must be 0 or more, got {self.dictionary_rate:g}")
        if self.dictionary_rate > 0:  # the atoms become similar, so any dictionary must be safe
            most = largest_gain(self.atoms, self.kernel, self.stride)
            check_tau(self.tau, most, "a dictionary that is learned")

    def minimal(self) -> "SparseStandard":
        """Return options with two iterations, for a rehearsal."""
        return replace(self, iterations=2)

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
            widen_first(model, self.atoms, channels, "sparse_standard")
        return FrontEnd(front, model)

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute CE(f(codes of x), y)."""
        return NoDefense().loss(model, images, labels, draws)

    def begin(self, model: nn.Module, course: Course) -> Session:
        """Begin a training, in which the dictionary may be learned as well."""
        return SparseSession(self, model)


class SparseSession(Session):
    """A training in which the dictionary is updated after each step."""

    def __init__(self, defense: SparseStandard, model: nn.Module) -> None:
        super().__init__(defense)
        front = getattr(unwrap(model), "front", None)
        if not isinstance(front, SparseCoding):
            raise ValueError(
                "sparse_standard needs a model that it prepared; call its prepare method before "
                "training"
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
