"""Hilbert-Schmidt independence criterion (HSIC), CKA, and the measures of BiDO."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from atat_ray.dependence.kernels import centred


def check_kernels(one: Tensor, other: Tensor, least: int) -> None:
    """Refuse kernel matrices of different batches, or of fewer than ``least`` rows.

    Raises:
        ValueError: the message has the sizes given.
    """
    if one.shape != other.shape or one.dim() != 2 or one.shape[0] != one.shape[1]:
        raise ValueError(
            f"two (N, N) kernel matrices of the same rows are needed, "
            f"got {tuple(one.shape)} and {tuple(other.shape)}"
        )
    if len(one) < least:
        raise ValueError(f"at least {least} rows are needed, got {len(one)}; use a larger batch")


def hsic(one: Tensor, other: Tensor) -> Tensor:
    """Estimate HSIC without bias from two kernel matrices: (N, N) twice -> scalar, N >= 4.

    Implements Eq. 5 of Song et al. (2012), "Feature selection via dependence maximization". The
    expectation under independence is 0, so single values may be negative.
    """
    check_kernels(one, other, 4)
    n = len(one)
    off = 1 - torch.eye(n, dtype=one.dtype, device=one.device)
    k, m = one * off, other * off
    trace = (k * m).sum()
    sums = k.sum() * m.sum() / ((n - 1) * (n - 2))
    mixed = 2 / (n - 2) * (k.sum(1) @ m.sum(1))
    return (trace + sums - mixed) / (n * (n - 3))


def cka(one: Tensor, other: Tensor) -> Tensor:
    """Compute centred kernel alignment from unbiased HSIC: ``HSIC(K, L) / sqrt(HSIC(K, K) ...)``.

    Implements Eq. 2 of Kornblith et al. (2019) with the estimator of :func:`hsic` (Nguyen et al.
    2021). It is 1 for features that are equal up to scale and about 0 for independent ones. It is 0
    if the estimate for one of the features with itself is not positive, as for constant features.
    """
    own = torch.stack([hsic(one, one), hsic(other, other)])
    known = (own > 0).all()
    return torch.where(known, hsic(one, other) / torch.where(known, own, 1).prod().sqrt(), 0)


def nocco(one: Tensor, other: Tensor, *, ridge: float = 1e-5) -> Tensor:
    """Compute the normalised cross-covariance that BiDO and the paper's table call HSIC.

    ``tr(R_K R_L)`` with ``R_K = K H (K H + ridge N I)^-1`` (Fukumizu et al. 2007, biased). It grows
    with the batch. At 128 rows of images it does not distinguish dependent from independent
    features, so use it only for comparison with published values.
    """
    check_kernels(one, other, 2)
    eye = torch.eye(len(one), dtype=one.dtype, device=one.device)

    def normalised(kernel: Tensor) -> Tensor:
        one_sided = kernel - kernel.mean(dim=1, keepdim=True)
        return torch.linalg.solve(one_sided + ridge * len(one) * eye, one_sided, left=False)

    return (normalised(one) * normalised(other).T).sum()


def coco(one: Tensor, other: Tensor) -> Tensor:
    """Compute the constrained covariance: ``sqrt(|H K H L H|) / N`` with the spectral norm.

    Implements Gretton et al. (2005), "Kernel constrained covariance for dependence measurement",
    the definition that BiDO cites. BiDO's code computes :func:`coco_frobenius`.
    """
    return root_of_norm(one, other, 2)


def coco_frobenius(one: Tensor, other: Tensor) -> Tensor:
    """Compute what BiDO's code calls COCO: ``sqrt(|H K H L H|) / N`` with the Frobenius norm.

    It is at least as large as :func:`coco`, and equal only if the product has rank 1.
    """
    return root_of_norm(one, other, "fro")


def root_of_norm(one: Tensor, other: Tensor, norm: Literal[2, "fro"]) -> Tensor:
    """Compute ``sqrt(|H K H L H|) / N``; the gradient is 0 where the norm is 0."""
    check_kernels(one, other, 2)
    size = torch.linalg.matrix_norm(centred(one) @ centred(other), ord=norm)
    return size.clamp_min(torch.finfo(size.dtype).tiny).sqrt() / len(one)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dependence:
    """An estimate of dependence and its permutation null.

    Attributes:
        value: the estimate.
        p_value: share of permutations at least as large, ``(1 + count) / (1 + permutations)``.
        null_mean: mean over the permutations.
        null_sd: standard deviation over the permutations.
    """

    value: float
    p_value: float
    null_mean: float
    null_sd: float


@torch.no_grad()
def against_permutations(
    measure: Callable[[Tensor, Tensor], Tensor],
    one: Tensor,
    other: Tensor,
    *,
    permutations: int,
    generator: torch.Generator,
) -> Dependence:
    """Estimate dependence and its distribution when the rows of one matrix are permuted.

    Args:
        measure: function of two kernel matrices, such as :func:`hsic` or :func:`cka`.
        one: (N, N) kernel matrix.
        other: (N, N) kernel matrix, whose rows are permuted.
        permutations: number of permutations, 1 or more.
        generator: of the permutations, on the CPU.

    Raises:
        ValueError: ``permutations`` is below 1, or the matrices do not fit the measure.
    """
    if permutations < 1:
        raise ValueError(f"permutations must be 1 or more, got {permutations}")
    value, null = measure(one, other), []
    for _ in range(permutations):
        order = torch.randperm(len(other), generator=generator).to(other.device)
        null.append(measure(one, other[order][:, order]))
    spread = torch.stack(null).cpu()
    return Dependence(
        value=float(value),
        p_value=(1 + int((spread >= float(value)).sum())) / (1 + permutations),
        null_mean=float(spread.mean()),
        null_sd=float(spread.std(correction=0)),
    )
