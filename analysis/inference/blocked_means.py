"""Means, errors and degrees of freedom of two arms that are compared within blocks.

All functions take arrays: outcomes ``y``, ``z`` true where a unit is in the first arm, and
``block``, the number of its block from 0.
"""

from __future__ import annotations

import numpy as np

from analysis.inference.table_checks import NotEstimable


def block_weights(z: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Return the weight of each block, proportional to n1 n0 / (n1 + n0) and summing to 1.

    These are the weights of OLS with block indicators. Blocks that lost no unit weigh the same, and
    then the estimate is the plain average of the blocks' differences.
    """
    treated = np.bincount(block, weights=z)
    size = np.bincount(block)
    precision = treated * (size - treated) / size
    return precision / precision.sum()


def at_an_end(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Tell whether all fractions ``y`` (units, ...) of one of both arms are 0, or all are 1."""
    arms = (y[z], y[~z])
    return np.any([np.all(arm == end, axis=0) for arm in arms for end in (0.0, 1.0)], axis=0)


def neyman(
    y: np.ndarray, z: np.ndarray, block: np.ndarray
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray, np.ndarray]:
    """Return (mean, variance) of both arms, variance and Satterthwaite df of their difference.

    For each column of y (units, m); every cell has two units or more.
    """
    weights, arms, parts, dfs = block_weights(z, block), [], [], []
    for group in (z, ~z):
        cells = [y[(block == b) & group] for b in range(len(weights))]
        mean = sum(w * cell.mean(axis=0) for w, cell in zip(weights, cells, strict=True))
        own = [w**2 * _variance(c) / len(c) for w, c in zip(weights, cells, strict=True)]
        arms.append((mean, np.sum(own, axis=0)))
        parts += own
        dfs += [len(cell) - 1 for cell in cells]
    terms = np.array(parts)
    variance = terms.sum(axis=0)
    spread = (terms.T**2 / np.array(dfs)).sum(axis=1)
    df = variance**2 / np.where(spread > 0, spread, 1.0)
    return arms, variance, np.where(spread > 0, df, sum(dfs))


def _variance(cell: np.ndarray) -> np.ndarray:
    """Return the variances of columns; 0 where all are the same, whatever rounding makes of it."""
    return np.where(np.ptp(cell, axis=0) == 0, 0.0, cell.var(axis=0, ddof=1))


def additive_hc2(y: np.ndarray, z: np.ndarray, block: np.ndarray) -> tuple[float, float, float]:
    """Return estimate, HC2 variance and n - k of OLS on arm and block indicators.

    HC2 after MacKinnon & White (1985), Eq. 12: residuals divided by sqrt(1 - leverage).
    """
    x = np.column_stack([z, block[:, None] == np.arange(block.max() + 1)]).astype(float)
    df = len(y) - x.shape[1]
    if df < 1:
        raise NotEstimable(f"{len(y)} units leave no degree of freedom for {x.shape[1]} parameters")
    inverse = np.linalg.inv(x.T @ x)
    coefficient = inverse @ x.T @ y
    leverage = np.einsum("ij,jk,ik->i", x, inverse, x)
    if leverage.max() > 1 - 1e-9:
        raise NotEstimable("one unit alone decides a coefficient, so its HC2 variance is undefined")
    residual = y - x @ coefficient
    residual[np.abs(residual) <= 1e-12 * np.abs(y).max()] = 0.0  # what rounding leaves of no error
    meat = x.T * (residual**2 / (1 - leverage))
    covariance = inverse @ (meat @ x) @ inverse
    return float(coefficient[0]), float(covariance[0, 0]), float(df)
