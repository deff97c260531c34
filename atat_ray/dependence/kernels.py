"""Kernel matrices of a batch, on the device of the rows."""

import torch
from torch import Tensor


def squared_distances(rows: Tensor) -> Tensor:
    """Compute squared L2 distances between all pairs: (N, ...) -> (N, N)."""
    flat = rows.flatten(1)
    products = flat @ flat.T
    norms = products.diagonal()
    return (norms[:, None] + norms[None, :] - 2 * products).clamp_min(0)


def median_bandwidth(rows: Tensor) -> Tensor:
    """Compute the median distance between two different rows: (N, ...) -> scalar.

    This is the median heuristic of Gretton et al. (2005). It makes a Gaussian kernel invariant to
    the scale of the features. Gradients pass through it, so they are those of the measured value;
    a median of 0, of rows that are mostly equal, has the gradient 0.
    """
    squared = squared_distances(rows)
    row, column = torch.triu_indices(*squared.shape, offset=1, device=squared.device)
    median = squared[row, column].median()
    return median.clamp_min(torch.finfo(median.dtype).tiny).sqrt()


def gaussian_kernel(rows: Tensor, bandwidth: Tensor | float | None = None) -> Tensor:
    """Compute ``exp(-|a_i - a_j|^2 / (2 sigma^2))``: (N, ...) -> (N, N).

    Args:
        rows: one row for each image.
        bandwidth: sigma, in units of the rows; the median distance if None.
    """
    sigma = median_bandwidth(rows) if bandwidth is None else bandwidth
    return torch.exp(-squared_distances(rows) / (2 * sigma**2 + 1e-12))


def linear_kernel(rows: Tensor) -> Tensor:
    """Compute inner products: (N, ...) -> (N, N)."""
    flat = rows.flatten(1)
    return flat @ flat.T


def centred(kernel: Tensor) -> Tensor:
    """Centre a kernel matrix in feature space: ``H K H`` with ``H = I - 1/N``."""
    rows = kernel.mean(dim=1, keepdim=True)
    return kernel - rows - rows.T + kernel.mean()
