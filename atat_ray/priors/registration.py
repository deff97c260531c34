"""Dense registration of faces to one symmetric template that is found together with it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from atat_ray.priors.warping import (
    expand_knots,
    identity_grid,
    mirror_flow,
    spline_matrix,
    warp,
)

NUM_KNOTS = 9
REFERENCE_SIDE = 64  # blurs are given in pixels of an image of this side


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """One round of registration against the template of the round before.

    Attributes:
        blur: standard deviation in pixels at 64 x 64.
        stride: every how many pixels of a row and of a column the images are compared.
        elastic: move the knots too, not only the similarity transform.
    """

    blur: float
    stride: int
    elastic: bool


LEVELS = (
    Level(blur=2.5, stride=2, elastic=False),
    Level(blur=1.5, stride=2, elastic=True),
    Level(blur=1.0, stride=2, elastic=True),
    Level(blur=0.5, stride=1, elastic=True),
)
SMOOTHNESS, MAGNITUDE = 0.6, 0.02
LR_SIM, LR_KNOT = 0.01, 0.01


def blur_matrix(size: int, sigma: float, device: torch.device) -> Tensor:
    """Give the (size, size) matrix of a Gaussian blur, its rows summing to one at the border too."""
    place = torch.arange(size, device=device, dtype=torch.float32)
    weights = torch.exp(-((place[:, None] - place) ** 2) / (2 * sigma**2))
    return weights / weights.sum(dim=1, keepdim=True)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Blur images (N, C, H, W) with a Gaussian of ``sigma`` pixels at a side of 64."""
    height, width = images.shape[-2:]
    rows = blur_matrix(height, sigma * height / REFERENCE_SIDE, images.device)
    columns = blur_matrix(width, sigma * width / REFERENCE_SIDE, images.device)
    return rows @ images @ columns.T


def normalize_contrast(images: Tensor) -> Tensor:
    """Remove local brightness and contrast: (N, C, H, W) -> (N, 1, H, W) of about unit variance."""
    fine = blur(images.mean(dim=1, keepdim=True), 1.0)
    detail = fine - blur(fine, 6.0)
    return detail / (blur(detail**2, 6.0) + 4e-4).sqrt()


def face_mask(height: int, width: int, device: torch.device) -> Tensor:
    """Weigh pixels by how likely they show the face: (height, width), one in the middle."""
    x, y = identity_grid(height, width, device).unbind(-1)
    radius = ((x / 0.8) ** 2 + ((y - 0.05) / 0.95) ** 2).sqrt()
    return torch.sigmoid((1 - radius) / 0.08)


def similarity_flow(similarity: Tensor, grid: Tensor) -> Tensor:
    """Turn (N, 4) rows (scale - 1, turn, right, down) into flows (N, h, w, 2); linear in them."""
    x, y = grid.unbind(-1)
    scale, turn, right, down = similarity[:, :, None, None].unbind(1)
    return torch.stack([scale * x - turn * y + right, turn * x + scale * y + down], dim=-1)


def make_flow(similarity, knots, height, width):
    rows = spline_matrix(height, NUM_KNOTS, knots.device)
    columns = spline_matrix(width, NUM_KNOTS, knots.device)
    grid = identity_grid(height, width, knots.device)
    return similarity_flow(similarity, grid) + expand_knots(knots, rows, columns)


def register(images: Tensor, steps: int = 60, log=False):
    height, width = images.shape[-2:]
    features = normalize_contrast(images)
    sim = torch.zeros(len(images), 4)
    knots = torch.zeros(len(images), 2, NUM_KNOTS, NUM_KNOTS)
    for level in LEVELS:
        smooth = blur(features, level.blur)
        h, w = height // level.stride, width // level.stride
        mask = face_mask(h, w, images.device)
        mask = mask / mask.sum()
        aligned = warp(smooth, make_flow(sim, knots, h, w))
        template = aligned.mean(0, keepdim=True)
        template = (template + template.flip(-1)) / 2
        sim.requires_grad_(); knots.requires_grad_(level.elastic)
        groups = [{"params": [sim], "lr": LR_SIM}]
        if level.elastic:
            groups.append({"params": [knots], "lr": LR_KNOT})
        opt = torch.optim.Adam(groups, betas=(0.9, 0.98))
        rows = spline_matrix(h, NUM_KNOTS, knots.device)
        columns = spline_matrix(w, NUM_KNOTS, knots.device)
        grid = identity_grid(h, w, knots.device)
        for step in range(steps):
            for g_, base in zip(opt.param_groups, (LR_SIM, LR_KNOT)):
                g_["lr"] = base * (1 - step / steps)**.5
            flow = similarity_flow(sim, grid) + expand_knots(knots, rows, columns)
            err = ((warp(smooth, flow) - template) ** 2 * mask).sum(dim=(1, 2, 3))
            px = knots * 8  # in knot spacings... 
            dx = (px[..., 1:] - px[..., :-1]).square().mean((1,2,3)) + (px[..., 1:, :] - px[..., :-1, :]).square().mean((1,2,3))
            loss = (err + SMOOTHNESS * dx + MAGNITUDE * px.square().mean((1,2,3))).sum()
            opt.zero_grad(); loss.backward(); opt.step()
        sim = sim.detach(); knots = knots.detach()
        ms = sim.mean(0); sim = sim - torch.tensor([1., 0, 0, 1]) * ms
        mk = knots.mean(0); mk = (mk + mk.flip(-1) * torch.tensor([-1., 1])[:, None, None]) / 2
        knots = knots - mk
        if log: print(level, err.mean().item(), dx.mean().item(), px.square().mean().item())
    return make_flow(sim, knots, height, width), err.detach()
