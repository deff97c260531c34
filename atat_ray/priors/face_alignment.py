"""Dense registration of faces to a symmetric template that is estimated at the same time."""

from dataclasses import dataclass

import torch
from torch import Tensor

from atat_ray.priors.flow_fields import (
    expand_knots,
    identity_grid,
    mirror_flow,
    spline_matrix,
    warp,
)

NUM_KNOTS = 9
REFERENCE_SIDE = 64  # widths of blurs are in pixels of an image of this side
GRID_SIDE = 32  # side of the grid of points at which images and template are compared
SMOOTHNESS, MAGNITUDE = 2.4, 0.08  # weights of squared strain and squared displacement of knots
LEARNING_RATE = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """Settings of one round of registration; its template is that of the previous round.

    Attributes:
        blur: standard deviation of the blur in pixels at 64 x 64.
        elastic: whether the knots are optimised too, or only the similarity transform.
    """

    blur: float
    elastic: bool


ROUNDS = (
    Round(blur=2.5, elastic=False),
    Round(blur=2.0, elastic=False),
    Round(blur=1.5, elastic=True),
    Round(blur=1.0, elastic=True),
    Round(blur=0.5, elastic=True),
)


class Deformation:
    """Flows (N, height, width, 2): the sum of a similarity transform and a spline over knots."""

    def __init__(self, height: int, width: int, device: torch.device) -> None:
        self.x, self.y = identity_grid(height, width, device).unbind(-1)
        self.rows = spline_matrix(height, NUM_KNOTS, device)
        self.columns = spline_matrix(width, NUM_KNOTS, device)

    def flow(self, similarity: Tensor, knots: Tensor) -> Tensor:
        """Compute flows from similarities and knots.

        Args:
            similarity: (N, 4), rows (scale - 1, turn, right, down).
            knots: (N, 2, k, k).
        """
        scale, turn, right, down = similarity[:, :, None, None].unbind(1)
        across = scale * self.x - turn * self.y + right
        along = turn * self.x + scale * self.y + down
        return torch.stack([across, along], dim=-1) + expand_knots(knots, self.rows, self.columns)


def register(images: Tensor, *, num_steps: int) -> Tensor:
    """Register roughly centred faces (N, C, H, W) to their template, from coarse to fine.

    Args:
        images: images in [0, 1].
        num_steps: steps of Adam in each round.

    Returns:
        Flow (N, H, W, 2): point x of the template corresponds to x + flow(x) in the image.
    """
    features = normalize_contrast(images)
    similarity = images.new_zeros(len(images), 4)
    knots = images.new_zeros(len(images), 2, NUM_KNOTS, NUM_KNOTS)
    for stage in ROUNDS:
        smooth = blur(features, stage.blur)
        refine(smooth, similarity, knots, elastic=stage.elastic, num_steps=num_steps)
        recentre(similarity, knots)
    deformation = Deformation(images.shape[2], images.shape[3], images.device)
    return deformation.flow(similarity, knots)


def refine(
    features: Tensor, similarity: Tensor, knots: Tensor, *, elastic: bool, num_steps: int
) -> None:
    """Optimise similarities and knots, in place, to match each image to the current template."""
    deformation = Deformation(GRID_SIDE, GRID_SIDE, features.device)
    mask = face_mask(GRID_SIDE, GRID_SIDE, features.device)
    template = symmetric_mean(warp(features, deformation.flow(similarity, knots)))
    moving = [similarity, knots] if elastic else [similarity]
    optimizer = torch.optim.Adam(moving, lr=LEARNING_RATE, betas=(0.9, 0.98))
    with torch.enable_grad():
        for tensor in moving:
            tensor.requires_grad_()
        for step in range(num_steps):
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / num_steps) ** 0.5
            difference = warp(features, deformation.flow(similarity, knots)) - template
            loss = (difference**2 * mask).sum() / mask.sum() + stiffness(knots)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for tensor in moving:
            tensor.requires_grad_(False)


def stiffness(knots: Tensor) -> Tensor:
    """Compute the penalty on knots (N, 2, k, k): mean squared strain and displacement, times N."""
    displacement = knots * (knots.shape[-1] - 1) / 2  # in units of the distance between knots
    strain = displacement.diff(dim=-1).square().mean() + displacement.diff(dim=-2).square().mean()
    return len(knots) * (SMOOTHNESS * strain + MAGNITUDE * displacement.square().mean())


def recentre(similarity: Tensor, knots: Tensor) -> None:
    """Move the template to the mean shape: subtract the symmetric part of the mean, in place.

    Otherwise the template would drift to any size and stretch that lowers the error.
    """
    similarity[:, 0] -= similarity[:, 0].mean()
    similarity[:, 3] -= similarity[:, 3].mean()
    mean = knots.mean(dim=0).permute(1, 2, 0)
    knots -= ((mean + mirror_flow(mean)) / 2).permute(2, 0, 1)


def symmetric_mean(images: Tensor) -> Tensor:
    """Average images (N, C, H, W) and their mirror images into (1, C, H, W)."""
    mean = images.mean(dim=0, keepdim=True)
    return (mean + mean.flip(-1)) / 2


def blur_matrix(size: int, sigma: float, device: torch.device) -> Tensor:
    """Return the (size, size) matrix of a Gaussian blur; all rows sum to one."""
    position = torch.arange(size, device=device, dtype=torch.float32)
    weights = torch.exp(-((position[:, None] - position) ** 2) / (2 * sigma**2))
    return weights / weights.sum(dim=1, keepdim=True)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Blur images (N, C, H, W) with a Gaussian; ``sigma`` is in pixels at a side of 64."""
    height, width = images.shape[-2:]
    rows = blur_matrix(height, sigma * height / REFERENCE_SIDE, images.device)
    columns = blur_matrix(width, sigma * width / REFERENCE_SIDE, images.device)
    return rows @ images @ columns.T


def normalize_contrast(images: Tensor) -> Tensor:
    """Normalise local brightness and contrast: (N, C, H, W) -> (N, 1, H, W), unit variance."""
    fine = blur(images.mean(dim=1, keepdim=True), 1.0)
    detail = fine - blur(fine, 6.0)
    floor = 0.02**2  # keeps the noise of a flat background small
    return detail / (blur(detail**2, 6.0) + floor).sqrt()


def face_mask(height: int, width: int, device: torch.device) -> Tensor:
    """Weight pixels by how likely they show the face: (height, width), one in the middle."""
    x, y = identity_grid(height, width, device).unbind(-1)
    radius = ((x / 0.8) ** 2 + ((y - 0.05) / 0.95) ** 2).sqrt()
    return torch.sigmoid((1 - radius) / 0.08)
