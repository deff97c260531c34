"""Evaluation models: who is on a reconstruction, judged by classifiers that the attack never saw.

They are trained on the training images of the private people, once per block, before any unit.
"""

from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, nn

from atat_ray.data import Faces, IdentitySplit
from atat_ray.models import ARCHITECTURES, new_network
from atat_ray.models.lda import ShrinkageLda
from atat_ray.models.small_vgg import SmallVgg
from atat_ray.training import Training, accuracy, train
from atat_ray.training.no_defense import NoDefense
from atat_ray.training.schedule import check_network
from atat_ray.utils.device import pick_device
from atat_ray.utils.errors import unknown
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import derive_seed, seeded

SMALL_VGG = "small_vgg"


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """How the evaluation models are made.

    Attributes:
        ensemble: number of networks; the mean of their probabilities decides.
        training: their schedule; augmentation stronger than that of the target models.
        architecture: of the networks: "small_vgg", or one that a target model can have.
    """

    ensemble: int
    training: Training
    architecture: str = SMALL_VGG

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if self.ensemble < 1:
            raise ValueError(f"ensemble must be 1 or more networks, got {self.ensemble}")
        if self.architecture not in (SMALL_VGG, *ARCHITECTURES):
            raise unknown("architecture", self.architecture, (SMALL_VGG, *ARCHITECTURES))
        if self.architecture != SMALL_VGG:
            check_network(self.architecture, self.training)
        elif self.training.weights != "none" or self.training.auxiliary_weight > 0:
            raise ValueError(
                f"{SMALL_VGG} has neither ImageNet weights nor an auxiliary head; leave weights "
                "and auxiliary_weight out, or set architecture: inception_v3"
            )


class EvaluationModels(nn.Module):
    """An ensemble of networks, and a second kind of evaluator beside it."""

    def __init__(
        self,
        evaluation: Evaluation,
        *,
        num_classes: int,
        channels: int,
        size: int,
        trained: bool = False,
    ) -> None:
        """Build them; ``trained`` if weights are loaded into them next."""
        super().__init__()
        training = evaluation.training

        def network() -> nn.Module:
            if evaluation.architecture == SMALL_VGG:
                return SmallVgg(num_classes=num_classes, channels=channels, size=size)
            return new_network(
                evaluation.architecture,
                num_classes=num_classes,
                channels=channels,
                weights="none" if trained else training.weights,
                auxiliary=training.auxiliary_weight > 0,
            )

        self.networks = nn.ModuleList(network() for _ in range(evaluation.ensemble))
        self.lda = ShrinkageLda(num_classes=num_classes, channels=channels)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] -> (N, num_classes) mean probabilities of the ensemble."""
        return torch.stack([network(images).softmax(1) for network in self.networks]).mean(0)

    def features(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] -> (N, D) unit-norm features: those of each network, joined."""
        parts = [
            nn.functional.normalize(network.features(images), dim=1)  # type: ignore[operator]
            for network in self.networks
        ]
        return torch.cat(parts, dim=1) / len(parts) ** 0.5


def fit_evaluation_models(
    split: IdentitySplit, evaluation: Evaluation, *, seed: int
) -> EvaluationModels:
    """Train the evaluation models of a block on the private training images, on the device.

    Args:
        split: of the block; only ``recognised`` is used.
        evaluation: their number and schedule.
        seed: of weights, order and augmentation.

    Raises:
        ValueError: one of them diverged: what it says of reconstructions would mean nothing.
    """
    channels, size = split.train.images.shape[1], split.train.images.shape[-1]
    device = pick_device()
    recognised = split.recognised.to(device)
    with seeded(derive_seed(seed, "weights")):
        models = EvaluationModels(
            evaluation, num_classes=split.num_classes, channels=channels, size=size
        ).to(device)
        plain = NoDefense()
        for index, network in enumerate(models.networks):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            train_seed = derive_seed(seed, "network", index)
            curves = train(network, recognised, plain, evaluation.training, seed=train_seed)
            check_converged(evaluation, index, [epoch["loss"] for epoch in curves])
    models.lda.fit(recognised)
    return models.eval()


def check_converged(evaluation: Evaluation, index: int, losses: list[float]) -> None:
    """Refuse an evaluation model whose last loss is no finite number.

    Args:
        evaluation: what it is one of.
        index: which one.
        losses: by epoch.

    Raises:
        ValueError: it diverged.
    """
    if not isfinite(losses[-1]):
        training = evaluation.training
        raise ValueError(
            f"evaluation model {index + 1} of {evaluation.ensemble} ({evaluation.architecture}) "
            f"diverged: its loss is {losses[-1]} after epoch {len(losses)} of {training.epochs} at "
            f"learning rate {training.learning_rate:g}; lower evaluation.training.learning_rate"
        )


def held_out_accuracy(models: EvaluationModels, test: Faces) -> dict[str, float]:
    """Measure the ensemble and the second evaluator on the private test images."""
    test = test.to(models.lda.weight.device)
    return {"ensemble": accuracy(models, test), "lda": accuracy(models.lda, test)}
