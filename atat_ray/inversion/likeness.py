"""How unlike two images are, for fitting a prior to images without a network that judges them."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

COARSEST = 8  # pixels a side


def unlikeness(images: Tensor, others: Tensor) -> Tensor:
    """Compute the mean over scales of the absolute differences of pixels and of edges, (N,).

    Each scale halves the one before by averaging. PPDG (Peng et al. 2024) takes LPIPS, which needs
    a VGG trained on ImageNet; the target model's own features would carry its adversarial
    directions into the prior, which is what pixels cannot.

    Args:
        images: (N, C, H, W) in [0, 1].
        others: of the same shape.
    """
    gap, total, scales = images - others, torch.zeros(len(images), device=images.device), 0
    while True:
        edges = (gap.diff(dim=2), gap.diff(dim=3))
        total = total + sum(part.abs().mean(dim=(1, 2, 3)) for part in (gap, *edges))
        scales += 1
        if min(gap.shape[2:]) < 2 * COARSEST:
            return total / scales
        gap = avg_pool2d(gap, 2)
