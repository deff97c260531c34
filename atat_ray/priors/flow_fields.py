"""Flow fields: displacements (x, y), in the last axis, on the square [-1, 1] x [-1, 1]."""

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate


def identity_grid(height: int, width: int, device: torch.device) -> Tensor:
    """Return the centre of every pixel, (height, width, 2) in [-1, 1]."""
    identity = torch.eye(2, 3, device=device).unsqueeze(0)
    return affine_grid(identity, [1, 1, height, width], align_corners=False)[0]


def warp(images: Tensor, flow: Tensor, *, mode: str = "bilinear") -> Tensor:
    """Sample images (N, C, H, W) at x + flow(x), flow (N, h, w, 2): (N, C, h, w)."""
    grid = identity_grid(flow.shape[1], flow.shape[2], flow.device) + flow
    return grid_sample(images, grid, mode=mode, padding_mode="reflection", align_corners=False)


def mirror_flow(flow: Tensor) -> Tensor:
    """Return the flow (..., h, w, 2) of the mirror image of the face."""
    return flow.flip(-2) * flow.new_tensor([-1.0, 1.0])


def invert_flow(flow: Tensor, *, num_steps: int = 12) -> Tensor:
    """Find the flow g (N, h, w, 2) with g(y) = -flow(y + g(y)), by fixed-point iteration."""
    identity = identity_grid(flow.shape[1], flow.shape[2], flow.device)
    field = flow.permute(0, 3, 1, 2)
    inverse = -flow
    for _ in range(num_steps):
        moved = grid_sample(field, identity + inverse, padding_mode="border", align_corners=False)
        inverse = -moved.permute(0, 2, 3, 1)
    return inverse


def spline_matrix(size: int, num_knots: int, device: torch.device) -> Tensor:
    """Return the (size, num_knots) matrix of bicubic interpolation along one axis."""
    knots = torch.eye(num_knots, device=device)[None, None]
    return interpolate(knots, size=(size, num_knots), mode="bicubic", align_corners=True)[0, 0]


def expand_knots(knots: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Interpolate knots (N, 2, k, k) to a flow (N, h, w, 2), given the two spline matrices."""
    return (rows @ knots @ columns.T).permute(0, 2, 3, 1)


def fit_knots(flow: Tensor, num_knots: int) -> Tensor:
    """Fit knots (N, 2, k, k) to a flow (N, h, w, 2) by least squares."""
    rows = spline_matrix(flow.shape[1], num_knots, flow.device)
    columns = spline_matrix(flow.shape[2], num_knots, flow.device)
    field = flow.permute(0, 3, 1, 2)
    return torch.linalg.pinv(rows) @ field @ torch.linalg.pinv(columns).T
