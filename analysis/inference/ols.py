"""Ordinary least squares with the standard errors and diagnostics that small tables need.

The errors that allow unequal variances stand here and nowhere else: HC2 and HC3 for independent
units (MacKinnon & White 1985), CR2 for clusters of rows (Bell & McCaffrey 2002). One rule holds for
all of them. A unit of leverage 1 (for CR2: a cluster) alone decides a coefficient, so its residual
is 0 whatever its error was. The error of that coefficient is then undefined, and the functions
raise NotEstimable.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.inference.table_checks import NotEstimable

_POWERS = {"HC2": 1, "HC3": 2}  # of 1 - leverage
_LEVERAGE_ONE = 1 - 1e-9  # leverages above are 1 up to rounding


@dataclass(frozen=True, kw_only=True, slots=True)
class Ols:
    """Least-squares fit of y (n,) on x (n, k)."""

    x: np.ndarray  # (n, k)
    coefficients: np.ndarray  # (k,)
    covariance: np.ndarray  # (k, k), assuming equal variances
    residuals: np.ndarray  # (n,)
    leverage: np.ndarray  # (n,)
    df: int  # n - k

    def robust_covariance(self, kind: str = "HC2") -> np.ndarray:
        """Return the HC2 or HC3 covariance of the coefficients, (k, k).

        Raises:
            NotEstimable: a unit has leverage 1.
        """
        return robust_covariance(self.x, self.residuals, kind=kind)

    def robust_se(self, kind: str = "HC2") -> np.ndarray:
        """Return the HC2 or HC3 standard errors of the coefficients, (k,).

        Raises:
            NotEstimable: a unit has leverage 1.
        """
        return np.sqrt(np.diag(self.robust_covariance(kind)))


def ols(y: np.ndarray, x: np.ndarray) -> Ols:
    """Fit y (n,) on x (n, k); x needs a column of ones or block indicators for an intercept.

    Raises:
        NotEstimable: columns of x are linearly dependent, or no degree of freedom is left.
    """
    n, k = x.shape
    if n <= k:
        raise NotEstimable(f"{n} units leave no degree of freedom for {k} coefficients")
    scaled = x / np.maximum(np.linalg.norm(x, axis=0), 1e-300)
    if np.linalg.matrix_rank(scaled, tol=1e-9) < k:
        raise NotEstimable("the columns of the regression are linearly dependent")
    inverse = np.linalg.inv(x.T @ x)
    coefficients = inverse @ (x.T @ y)
    residuals = y - x @ coefficients
    return Ols(
        x=x,
        coefficients=coefficients,
        covariance=inverse * float(residuals @ residuals) / (n - k),
        residuals=residuals,
        leverage=_leverage(x, inverse),
        df=n - k,
    )


def robust_covariance(x: np.ndarray, residuals: np.ndarray, *, kind: str = "HC2") -> np.ndarray:
    r"""Return the covariance (k, k) of least-squares coefficients under unequal variances.

    .. math:: (X'X)^{-1} X' \mathrm{diag}(e_i^2 / (1 - h_i)^p) X (X'X)^{-1}

    with p = 1 for HC2 and p = 2 for HC3 (MacKinnon & White 1985, Eq. 12 for HC2). For a fit with
    weights w, give x sqrt(w) and residuals sqrt(w).

    Args:
        x: regressors, (n, k).
        residuals: of the fit, (n,).
        kind: HC2 or HC3.

    Raises:
        NotEstimable: a unit has leverage 1.
    """
    inverse = np.linalg.inv(x.T @ x)
    leverage = _leverage(x, inverse)
    if leverage.max() > _LEVERAGE_ONE:
        raise NotEstimable(f"one unit alone decides a coefficient, so {kind} errors are undefined")
    weight = residuals**2 / (1 - leverage) ** _POWERS[kind]
    return inverse @ ((x.T * weight) @ x) @ inverse


def _leverage(x: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Return the diagonal of x (x'x)^-1 x', (n,); ``inverse`` is (x'x)^-1."""
    return np.einsum("ij,jk,ik->i", x, inverse, x)


def cr2(y: np.ndarray, x: np.ndarray, cluster: np.ndarray) -> tuple[float, float, float]:
    r"""Return coefficient 0 of y (n,) on x (n, k), its CR2 variance and degrees of freedom.

    CR2 (Bell & McCaffrey 2002): residuals of cluster g are multiplied by
    :math:`A_g = (I - H_{gg})^{-1/2}`. Degrees of freedom after Satterthwaite under a working model
    of independent errors (Pustejovsky & Tipton 2018, Sec. 2.3). The error of the estimate is a sum
    over clusters of p_g'e, so they are (tr B)^2 / tr(B^2) with B_gh = p_g'(I - H)_gh p_h. With one
    row a cluster this is HC2 with the degrees of freedom of Imbens & Kolesar (2016).

    A cluster that alone decides another coefficient, as the only one of its block does, adds
    nothing to the variance of coefficient 0: its A_g is a generalised inverse.

    Args:
        y: outcomes, (n,).
        x: regressors, (n, k); the arm is column 0.
        cluster: number of each row's cluster from 0, (n,).

    Raises:
        NotEstimable: a cluster alone decides coefficient 0.
    """
    inverse = np.linalg.inv(x.T @ x)
    residual = y - x @ (inverse @ (x.T @ y))
    order = np.argsort(cluster, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(cluster[order])) + 1)
    square, score, projected = np.zeros(len(members)), np.zeros(len(members)), []
    for g, rows in enumerate(members):
        values, vectors = np.linalg.eigh(np.eye(len(rows)) - x[rows] @ inverse @ x[rows].T)
        positive = values > 1e-10
        own = inverse[0] @ x[rows].T
        if np.linalg.norm(own @ vectors[:, ~positive]) > 1e-6 * np.sqrt(inverse[0, 0]):
            raise NotEstimable("one cluster alone decides the effect, so CR2 errors are undefined")
        root = (vectors[:, positive] / np.sqrt(values[positive])) @ vectors[:, positive].T
        weight = own @ root
        square[g], score[g] = weight @ weight, weight @ residual[rows]
        projected.append(weight @ x[rows])
    # B = diag(square) - P inverse P', as I - H is a projection
    rows_of_p = np.array(projected)
    shared = np.einsum("gi,ij,gj->g", rows_of_p, inverse, rows_of_p)
    inner = inverse @ rows_of_p.T @ rows_of_p
    of_square = np.sum(square**2) - 2 * square @ shared + np.trace(inner @ inner)
    df = float((square.sum() - shared.sum()) ** 2 / of_square)
    return float(inverse[0] @ (x.T @ y)), float(np.sum(score**2)), df


def block_indicators(block: np.ndarray) -> np.ndarray:
    """Return one 0/1 column for each block, (n, blocks), from block numbers (n,) from 0."""
    return (block[:, None] == np.arange(block.max() + 1)).astype(float)
