"""Ordinary least squares with the errors and diagnostics that small tables need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.inference.table_checks import NotEstimable


@dataclass(frozen=True, kw_only=True, slots=True)
class Ols:
    """Least-squares fit of y (n,) on x (n, k)."""

    coefficients: np.ndarray  # (k,)
    covariance: np.ndarray  # (k, k), of equal variances
    robust: np.ndarray  # (k, k), HC2 or HC3 as asked
    residuals: np.ndarray  # (n,)
    leverage: np.ndarray  # (n,)
    df: int  # n - k

    @property
    def se(self) -> np.ndarray:
        """Robust standard errors, (k,)."""
        return np.sqrt(np.diag(self.robust))

    def __str__(self) -> str:
        pairs = zip(self.coefficients, self.se, strict=True)
        return ", ".join(f"{b:.4g} (SE {s:.4g})" for b, s in pairs) + f"; {self.df} df"


def ols(y: np.ndarray, x: np.ndarray, *, robust: str = "HC2") -> Ols:
    """Fit y on x; ``robust`` is HC2 or HC3 (MacKinnon & White 1985).

    Raises:
        NotEstimable: columns of x depend on each other, or no degree of freedom is left.
    """
    n, k = x.shape
    if n <= k:
        raise NotEstimable(f"{n} rows leave no degree of freedom for {k} coefficients")
    scaled = x / np.maximum(np.linalg.norm(x, axis=0), 1e-300)
    if np.linalg.matrix_rank(scaled, tol=1e-9) < k:
        raise NotEstimable("the columns of the regression depend on each other")
    inverse = np.linalg.inv(x.T @ x)
    coefficients = inverse @ (x.T @ y)
    residuals = y - x @ coefficients
    leverage = np.einsum("ij,jk,ik->i", x, inverse, x)
    power = {"HC2": 1, "HC3": 2}[robust]
    weight = residuals**2 / np.maximum(1 - leverage, 1e-12) ** power
    return Ols(
        coefficients=coefficients,
        covariance=inverse * float(residuals @ residuals) / (n - k),
        robust=inverse @ (x.T * weight) @ x @ inverse,
        residuals=residuals,
        leverage=leverage,
        df=n - k,
    )


def block_indicators(block: np.ndarray) -> np.ndarray:
    """Return one indicator a block, (n, blocks), from block numbers (n,)."""
    return (block[:, None] == np.arange(block.max() + 1)).astype(float)
