"""Linear discriminant analysis on small images, an evaluator that is not a neural network."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from atat_ray.data import Faces

SIDE = 16
CHUNK = 1024  # images in memory at a time


class ShrinkageLda(nn.Module):
    """Gaussian classes with one shared covariance, shrunk towards a multiple of the identity."""

    def __init__(self, *, num_classes: int, channels: int = 1) -> None:
        super().__init__()
        self.weight = nn.Buffer(torch.zeros(num_classes, channels * SIDE * SIDE))
        self.bias = nn.Buffer(torch.zeros(num_classes))

    @staticmethod
    def pixels(images: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C * 256), each image with mean 0 and norm 1."""
        small = interpolate(images, size=(SIDE, SIDE), mode="area").flatten(1)
        return nn.functional.normalize(small - small.mean(1, keepdim=True), dim=1)

    def fit(self, faces: Faces, *, shrinkage: float = 0.3) -> "ShrinkageLda":
        """Fit to images and their mirror images; ``shrinkage`` in [0, 1] weights the identity."""
        parts, labels = [], []
        pairs = zip(faces.images.split(CHUNK), faces.labels.split(CHUNK), strict=True)
        for images, some in pairs:
            parts.append(self.pixels(torch.cat([images, images.flip(3)])))
            labels.append(some.repeat(2))
        x, labels = torch.cat(parts).double(), torch.cat(labels)
        means = torch.stack([x[labels == c].mean(0) for c in range(len(self.bias))])
        residuals = x - means[labels]
        covariance = residuals.T @ residuals / len(x)
        scale = covariance.diagonal().mean()
        identity = torch.eye(len(covariance), dtype=x.dtype, device=x.device)
        shrunk = (1 - shrinkage) * covariance + shrinkage * scale * identity
        weight = torch.linalg.solve(shrunk, means.T).T
        self.weight.copy_(weight)
        self.bias.copy_(-0.5 * (weight * means).sum(1))
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) in [0, 1] to (N, num_classes) logits."""
        return self.pixels(images) @ self.weight.T + self.bias
