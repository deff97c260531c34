"""Weights, means and Neyman's variance of two arms that are compared within blocks.

All functions take arrays: outcomes ``y``, ``z`` true for units of the first arm, and ``block``, the
number of each unit's block from 0.
"""

from __future__ import annotations

import numpy as np

_SAME = 1e-12  # of the largest outcome: differences below are rounding


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

    The variance is Neyman's. A cell of arm and block with a single unit has the variance of its
    arm pooled over the other blocks. Where an arm has no cell of two units, as in matched pairs,
    the variance is that of the blocks' differences: see :func:`_between_blocks`.

    Returns:
        (mean, variance of the mean) of each arm, the first arm first; the variance of the
        difference, which is their sum; its degrees of freedom. All arrays have the shape (m,).
    """
    counts = np.array([np.bincount(block[group], minlength=block.max() + 1) for group in (z, ~z)])
    weights = block_weights(z, block)
    if counts.max(axis=1).min() < 2:
        return _between_blocks(y, z, block, weights)
    arms, parts, dfs = [], [], []
    for group, n in zip((z, ~z), counts, strict=True):
        cells = [y[(block == b) & group] for b in range(len(weights))]
        mean = sum(w * cell.mean(axis=0) for w, cell in zip(weights, cells, strict=True))
        single = n < 2
        pooled = np.sum(weights[single] ** 2) * (n - 1) / (n - 1).sum()
        factors = np.where(single, 0.0, weights**2 / n + pooled)
        own = [
            f * _variance(cell)
            for f, cell, alone in zip(factors, cells, single, strict=True)
            if not alone
        ]
        arms.append((mean, np.sum(own, axis=0)))
        parts += own
        dfs += [size - 1 for size in n if size > 1]
    terms = np.array(parts)
    variance = terms.sum(axis=0)
    return arms, variance, _satterthwaite(terms, np.array(dfs), counts)


def variance_method(z: np.ndarray, block: np.ndarray) -> str:
    """Name the variance and the degrees of freedom that :func:`neyman` takes for these units."""
    counts = np.array([np.bincount(block[group]) for group in (z, ~z)])
    if counts.max() == 1:
        return "matched pairs, t"
    if counts.max(axis=1).min() == 1:
        return "differences of the blocks, t"
    unequal = len(set(counts.sum(axis=1))) > 1
    df = "df of the smaller arm" if unequal else "Satterthwaite df"
    if counts.min() == 1:
        return f"Neyman variance, pooled over blocks for single units, {df}"
    if block.max() == 0 and not unequal:
        return "Welch"
    return f"Neyman variance, {df}"


def _satterthwaite(terms: np.ndarray, dfs: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the degrees of freedom of a sum of variance terms (parts, m), for each column.

    Satterthwaite's (1946) are at least those of one arm, f, and at most those of all units, f + g,
    where f is the smaller arm's. With unequal numbers they are too many where the smaller arm is
    the more variable one and by chance shows little spread. What exceeds f is therefore multiplied
    by (f / g)^2, so that equal arms keep all of it. The power of 2 was chosen by simulation: see
    docs/validity.md. ``counts`` are the units of each
    arm and block, (2, blocks).
    """
    variance, spread = terms.sum(axis=0), (terms.T**2 / dfs).sum(axis=1)
    df = np.where(spread > 0, variance**2 / np.where(spread > 0, spread, 1.0), dfs.sum())
    each = np.maximum(counts - 1, 0).sum(axis=1)
    fewest, rest = each.min(), each.max()
    if fewest == rest:
        return df
    return np.where(df > fewest, fewest + (df - fewest) * (fewest / rest) ** 2, df)


def _between_blocks(
    y: np.ndarray, z: np.ndarray, block: np.ndarray, weights: np.ndarray
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray, np.ndarray]:
    """Estimate as :func:`neyman` does, from the differences of the blocks.

    The variance is HC2 of the weighted mean of the differences, that of the paired t test where
    blocks weigh the same. It is split between the arms after taking out their covariance, which is
    that of an additive effect of the block, so that a skewed arm is corrected by its own variance.
    Equal arms have blocks - 1 degrees of freedom. With unequal numbers those above 1 are multiplied
    by the ratio of the numbers, which holds 5 % by simulation (docs/validity.md).
    """
    blocks = range(len(weights))
    one, other = (np.array([y[(block == b) & g].mean(axis=0) for b in blocks]) for g in (z, ~z))
    means = [weights @ side for side in (one, other)]
    a, b = (side - mean for side, mean in zip((one, other), means, strict=True))
    factor = weights**2 / (1 - weights)
    alike = np.ptp(one - other, axis=0) <= _SAME * np.abs(y).max(axis=0)
    variance = np.where(alike, 0.0, factor @ (a - b) ** 2)
    own = np.clip(factor @ (a**2 - a * b), 0, variance)
    ratio = min(z.mean(), 1 - z.mean()) / max(z.mean(), 1 - z.mean())
    df = np.full(y.shape[1], 1 + (len(weights) - 2) * ratio)
    return [(means[0], own), (means[1], variance - own)], variance, df


def _variance(cell: np.ndarray) -> np.ndarray:
    """Return the variance of each column; exactly 0 where all values are equal."""
    return np.where(np.ptp(cell, axis=0) == 0, 0.0, cell.var(axis=0, ddof=1))
