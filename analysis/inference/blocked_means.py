"""Weights, means and Neyman's variance of two arms that are compared within blocks.

All functions take arrays: outcomes ``y``, ``z`` true for units of the first arm, and ``block``, the
number of each unit's block from 0.
"""

from __future__ import annotations

import numpy as np


def block_weights(z: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Return the weight of each block, proportional to n1 n0 / (n1 + n0) and summing to 1.

    These are the weights of OLS with block indicators. Where no block lost a unit, all weigh the
    same and the estimate is the plain average of the blocks' differences.
    """
    treated = np.bincount(block, weights=z)
    size = np.bincount(block)
    precision = treated * (size - treated) / size
    return precision / precision.sum()


def arm_at_bound(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return whether all outcomes of an arm are 0 or all are 1, for fractions ``y`` (units, ...).

    The result has the shape of a row of ``y``.
    """
    arms = (y[z], y[~z])
    return np.any([np.all(arm == end, axis=0) for arm in arms for end in (0.0, 1.0)], axis=0)


def neyman(
    y: np.ndarray, z: np.ndarray, block: np.ndarray
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray, np.ndarray]:
    """Estimate both arms and the variance of their difference, for each column of y (units, m).

    Every cell of arm and block must hold two units or more.

    Returns:
        (mean, variance of the mean) of each arm, the first arm first; Neyman's variance of the
        difference; its Satterthwaite degrees of freedom. All arrays have the shape (m,).
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
    """Return the variance of each column; exactly 0 where all values are equal."""
    return np.where(np.ptp(cell, axis=0) == 0, 0.0, cell.var(axis=0, ddof=1))
