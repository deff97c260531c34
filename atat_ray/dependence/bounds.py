"""Hammersley-Chapman-Robbins (HCR) bound of single pixels, and the Cramer-Rao bound it tends to.

For a release A(v) + N(0, sigma^2) and any step delta, the standard deviation of an unbiased
estimator of coordinate k of v is at least

    s_k = |delta_k| / sqrt(expm1(alpha^2)),    alpha = |A(v + delta) - A(v)| / sigma.

Every delta gives a valid bound, so the largest of any search is one. Whether v is a pixel of a
training image and A(v) the trained parameters, or v the image given to a fixed network and A(v) its
features, is up to the release (:mod:`atat_ray.dependence.fisher`).

A coordinate whose unit vector e_k is not in the row space of the Jacobian has an infinite supremum:
small steps in the null space change it and not the release. With fewer outputs than inputs this
is usual. A deleted pixel is such a coordinate, and its bound is infinite at every step.

Sources: Chapman and Robbins (1951); Chaudhuri et al. (2024), "Guarantees of confidentiality via
Hammersley-Chapman-Robbins bounds".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from atat_ray.dependence.fisher import Release, check_noise, linearise

ASYMPTOTE = 700.0  # alpha^2 above which log(expm1(alpha^2)) is alpha^2; exp overflows at 709
TINY = 1e-17  # alpha^2 below which expm1(alpha^2) is alpha^2
RATIOS = (1e-3, 0.1, 0.5, 1.0)  # alpha of the steps of a search, by the Jacobian
INSIDE = 1e-8  # distance of |P e_k|^2 from 1 up to which e_k counts as in the row space


def log_hcr(steps: Tensor, changes: Tensor, noise: float) -> Tensor:
    """Compute log s of the HCR bound, in logarithms and float64.

    Args:
        steps: (..., d), the perturbation delta of the secret.
        changes: (..., n), the change of the release, without noise.
        noise: standard deviation sigma of the noise on the release.

    Returns:
        (..., d), natural logarithm of the standard deviation, in the unit of the secret: infinity
        where the coordinate changes and the release does not, -infinity (a bound of 0) where the
        coordinate does not change.

    Raises:
        ValueError: the noise is not above 0, or a step or change is not finite.
    """
    check_noise(noise)
    steps, changes = steps.double(), changes.double()
    if not (steps.isfinite().all() and changes.isfinite().all()):
        raise ValueError("steps and changes of the release must be finite, got NaN or infinity")
    scale = changes.abs().amax(-1, keepdim=True)  # squares of tiny changes are not 0
    scaled = changes / scale.where(scale > 0, 1.0)
    log_square = 2 * (scale.log() + scaled.norm(dim=-1, keepdim=True).log() - log(noise))
    square = log_square.exp()
    log_chi_square = torch.where(
        square > ASYMPTOTE, square, square.clamp(TINY, ASYMPTOTE).expm1().log()
    )
    log_chi_square = torch.where(square < TINY, log_square, log_chi_square)
    found = steps.abs().log() - log_chi_square / 2
    return torch.where(steps == 0, -torch.inf, found)


@dataclass(frozen=True, kw_only=True, slots=True)
class RowSpace:
    """Row space of the Jacobian of each row, and the Cramer-Rao bound that follows from it.

    Attributes:
        rank: (N,), number of singular values that are not 0 within rounding.
        inside: (N, d), whether e_k is in the row space. The bound is infinite where it is not.
        deviation: (N, d), ``sqrt(((J^T J)^+)_kk)``, the value of noise 1 within the row space: the
            bound of the part of coordinate k that the release depends on.
        singular: (N, d), the right singular vector of the smallest singular value that is not 0.
        inverse: (N, d, r), a square root of ``(J^T J)^+``.
    """

    rank: Tensor
    inside: Tensor
    deviation: Tensor
    singular: Tensor
    inverse: Tensor

    def row_space_deviation(self, noise: float) -> Tensor:
        """Compute the largest bound by small steps within the row space: (N, d), always finite.

        It is the Cramer-Rao bound of coordinate k only where e_k is in the row space.
        """
        check_noise(noise)
        return noise * self.deviation

    def cramer_rao(self, noise: float) -> Tensor:
        """Compute the Cramer-Rao bound: (N, d), a standard deviation, infinite outside."""
        return torch.where(self.inside, self.row_space_deviation(noise), torch.inf)

    def row_space_directions(self, coordinate: int) -> Tensor:
        """Compute ``(J^T J)^+ e_k``: (N, d). Small steps along it reach the row-space value."""
        return torch.einsum("ndr,nr->nd", self.inverse, self.inverse[:, coordinate])


def row_space(jacobians: Tensor) -> RowSpace:
    """Find the row space of Jacobians: (N, n, d) -> :class:`RowSpace`.

    Rank uses the usual tolerance, max(n, d) times machine epsilon times the largest value. Compute
    Jacobians in float64: in float32 noise counts as rank.
    """
    _, values, vectors = torch.linalg.svd(jacobians, full_matrices=False)
    largest = values[:, :1]
    rounding = max(jacobians.shape[1:]) * torch.finfo(values.dtype).eps
    kept = values > largest * rounding
    rank = kept.sum(1)
    vectors = vectors * kept[..., None]
    inverse = (vectors / values.where(kept, 1.0)[..., None]).mT
    last = (rank - 1).clamp_min(0)
    return RowSpace(
        rank=rank,
        inside=vectors.square().sum(1) > 1 - INSIDE,
        deviation=inverse.norm(dim=2),
        singular=vectors[torch.arange(len(vectors), device=last.device), last],
        inverse=inverse,
    )


def unit_steps(points: Tensor, coordinates: Tensor) -> Iterator[Tensor]:
    """Generate +-e_k for each coordinate, (K,), of flattened points in [0, 1]: (N, ...).

    The sign is towards the middle of the range, so that a step of at most 0.5 stays inside.
    """
    flat = points.flatten(1)
    for coordinate in coordinates.tolist():
        direction = torch.zeros_like(flat)
        direction[:, coordinate] = torch.where(flat[:, coordinate] > 0.5, -1.0, 1.0).to(flat)
        yield direction.view_as(points)


@torch.no_grad()
def search_hcr(
    release: Release,
    points: Tensor,
    directions: Iterator[Tensor],
    *,
    noises: tuple[float, ...],
    reach: float,
) -> Tensor:
    """Search the largest HCR bound over finite steps along directions.

    The length of a step is chosen by the Jacobian, so that alpha is each of RATIOS, but no
    coordinate changes by more than ``reach``. The bound is then computed from a real pass of the
    release. Results are valid whatever the directions; they are the best only among these. A change
    of the release below the rounding of float64 counts as none.

    Args:
        release: maps (N, ...) to (N, ...).
        points: (N, ...) in float64.
        directions: of the steps, each (N, ...).
        noises: standard deviations of the noise.
        reach: largest change of a coordinate, in the unit of the points.

    Returns:
        (noises, N, d), standard deviations; 0 where no direction changes the coordinate.

    Raises:
        ValueError: points are not float64, in which small changes of a release would be lost.
    """
    if points.dtype != torch.float64:
        raise ValueError(f"points must be float64, got {points.dtype}; call double()")
    flat = points.flatten(1)
    best = flat.new_full((len(noises), *flat.shape), -torch.inf)
    _, product, _ = linearise(release, points)
    shape = len(noises), len(RATIOS), *flat.shape
    # In a batch of the same shape, so that equal inputs give equal outputs to the last bit.
    before = release(flat.expand(shape).reshape(-1, *points.shape[1:]))
    alphas = torch.tensor(RATIOS, dtype=flat.dtype, device=flat.device)
    sizes = torch.stack([noise * alphas for noise in noises])[..., None, None]  # of A's change
    for direction in directions:
        gain = product(direction).flatten(1).norm(dim=1, keepdim=True)
        along = direction.flatten(1)
        longest = reach / along.abs().amax(1, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny)
        lengths = torch.minimum(sizes / gain, longest)  # the former is infinite where gain is 0
        moved = flat + lengths * along  # of this shape
        change = release(moved.view(-1, *points.shape[1:])) - before
        changes, steps = change.view(*shape[:3], -1), moved - flat
        for number, noise in enumerate(noises):
            found = log_hcr(steps[number], changes[number], noise).amax(0)
            best[number] = torch.maximum(best[number], found)
    return best.exp()
