"""Evaluation models: classifiers that recognise the private people on reconstructions.

They are trained on the private training images, once for each block, before any unit. No attack
uses them.
"""

from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, nn

from atat_ray.data import Faces, IdentitySplit
from atat_ray.models import ARCHITECTURES, new_network
from atat_ray.models.linear_discriminant import ShrinkageLda
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
    """Number, architecture and training of the evaluation models.

    Attributes:
        ensemble: number of networks; their probabilities are averaged.
        training: schedule of the networks; its augmentation should be stronger than that of the
            target models.
        architecture: "small_vgg", or an architecture of target models.
    """

    ensemble: int
    training: Training
    architecture: str = SMALL_VGG

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if self.ensemble < 1:
            raise ValueError(f"ensemble must be 1 network or more, got {self.ensemble}")
        if self.architecture not in (SMALL_VGG, *ARCHITECTURES):
            raise unknown("architecture", self.architecture, (SMALL_VGG, *ARCHITECTURES))
        if self.architecture != SMALL_VGG:
            check_network(self.architecture, self.training)
        elif self.training.weights != "none" or self.training.auxiliary_weight > 0:
            raise ValueError(
                f"{SMALL_VGG} has neither ImageNet weights nor an auxiliary head; omit weights and "
                "auxiliary_weight, or set architecture: inception_v3"
            )


class EvaluationModels(nn.Module):
    """An ensemble of networks, and a shrinkage LDA as a second, independent evaluator."""

    def __init__(
        self,
        evaluation: Evaluation,
        *,
        num_classes: int,
        channels: int,
        size: int,
        trained: bool = False,
    ) -> None:
        """Build the models.

        Args:
            evaluation: their number and architecture.
            num_classes: number of private people.
            channels: channels of the images.
            size: side of the images in pixels.
            trained: whether trained weights are loaded next, so that initial ones are not needed.
        """
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
        """Average the probabilities of the networks: (N, C, H, W) in [0, 1] -> (N, num_classes)."""
        return torch.stack([network(images).softmax(1) for network in self.networks]).mean(0)

    def features(self, images: Tensor) -> Tensor:
        """Concatenate the features of all networks: (N, C, H, W) in [0, 1] -> (N, D), unit norm."""
        parts = [
            nn.functional.normalize(network.features(images), dim=1)  # type: ignore[operator]
            for network in self.networks
        ]
        return torch.cat(parts, dim=1) / len(parts) ** 0.5


def fit_evaluation_models(
    split: IdentitySplit, evaluation: Evaluation, *, seed: int
) -> EvaluationModels:
    """Train the evaluation models of a block on the private training images.

    Args:
        split: people and images of the block; the models learn from ``recognised``.
        evaluation: number, architecture and schedule.
        seed: seed of weights, order and augmentation.

    Returns:
        The models in evaluation mode, on the GPU if there is one.

    Raises:
        ValueError: a network diverged, so that its scores would be meaningless.
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
    """Refuse an evaluation model whose last loss is not finite.

    Args:
        evaluation: options of the ensemble.
        index: number of the network in the ensemble, from 0.
        losses: mean loss of each epoch.

    Raises:
        ValueError: the loss diverged.
    """
    if not isfinite(losses[-1]):
        training = evaluation.training
        raise ValueError(
            f"evaluation model {index + 1} of {evaluation.ensemble} ({evaluation.architecture}) "
            f"diverged: its loss is {losses[-1]} after epoch {len(losses)} of {training.epochs} at "
            f"learning rate {training.learning_rate:g}; lower evaluation.training.learning_rate"
        )


def held_out_accuracy(models: EvaluationModels, test: Faces) -> dict[str, float]:
    """Measure the accuracy of the ensemble and of the LDA on the private test images."""
    test = test.to(models.lda.weight.device)
    return {"ensemble": accuracy(models, test), "lda": accuracy(models.lda, test)}
