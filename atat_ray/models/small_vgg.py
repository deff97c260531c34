"""Evaluation model of the embedded trial, designed to share little with the target model."""

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from atat_ray.models.image_layers import Normalized


class SmallVgg(nn.Module):
    """Plain convolutions at half resolution with GroupNorm, SiLU, a flattened map and dropout.

    The target model, in contrast, is residual, with patches, batch normalisation, ReLU and average
    pooling.
    """

    def __init__(self, *, num_classes: int, channels: int = 1, size: int = 64) -> None:
        super().__init__()
        self.normalize = Normalized()
        widths = [channels, 24, 48, 96]
        layers: list[nn.Module] = []
        for depth, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False)):
            kernel = 5 if depth == 0 else 3
            layers += [
                nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2),
                nn.MaxPool2d(2),
                nn.GroupNorm(8, outputs),
                nn.SiLU(),
            ]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3))
        self.embed = nn.Linear(96 * (size // 16) ** 2, 128)
        self.head = nn.Sequential(nn.SiLU(), nn.Dropout(0.3), nn.Linear(128, num_classes))

    def features(self, images: Tensor) -> Tensor:
        """Map (N, C, size, size) in [0, 1] to (N, 128) penultimate features."""
        return self.embed(self.body(avg_pool2d(self.normalize(images), 2)))

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, size, size) in [0, 1] to (N, num_classes) logits."""
        return self.head(self.features(images))
