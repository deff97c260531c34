"""Fisher information loss of a release with Gaussian noise, in its spectral and its trace form.

A release maps a secret v to numbers A(v), which are published with noise N(0, sigma^2) on each. Its
Fisher information is I = J^T J / sigma^2, where J is the Jacobian of A at v. The functions take any
release, so the caller chooses the mechanism that a number speaks of:

(a) training: v is one training image and A(v) the trained parameters;
(b) inference: the network is fixed, v is the image given to it and A(v) its features or outputs.

The unit measure (:mod:`atat_ray.unit.bounds_stage`) is of kind (b).

A release maps a batch, (N, ...) -> (N, ...), and a row of its result depends on the same row of its
input alone. A network in evaluation mode does; other functions are mapped by ``torch.func.vmap``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import grad

Release = Callable[[Tensor], Tensor]


def check_noise(noise: float) -> None:
    """Refuse a noise of 0: eta would be infinite, and every bound 0.

    Raises:
        ValueError: the message has the value given.
    """
    if not 0 < noise < float("inf"):
        raise ValueError(
            f"the standard deviation of the noise must be above 0 and finite, got {noise:g}; "
            "without noise there is no bound"
        )


def linearise(release: Release, points: Tensor) -> tuple[Tensor, Release, Release]:
    """Return the release at points, and the products with its Jacobian, v -> J v and w -> J^T w.

    J v is the derivative of w -> J^T w, which is linear, so that it takes backward passes alone.
    Forward passes of ``torch.func`` give the same, but refuse networks with checkpoints.

    Args:
        release: maps (N, ...) to (N, ...), with two derivatives in torch.
        points: (N, ...), where the Jacobian is taken.
    """
    with torch.enable_grad():
        inputs = points.detach().clone().requires_grad_()
        released = release(inputs)
        weights = torch.zeros_like(released).requires_grad_()
        (pulled,) = grad(released, inputs, weights, create_graph=True)

    def product(vectors: Tensor) -> Tensor:
        return grad(pulled, weights, vectors, retain_graph=True)[0]

    def transposed(outputs: Tensor) -> Tensor:
        return grad(released, inputs, outputs, retain_graph=True)[0]

    return released.detach(), product, transposed


def jacobian(release: Release, points: Tensor) -> Tensor:
    """Compute the dense Jacobian of each row: (N, ...) -> (N, n, d), d inputs and n outputs.

    It takes n vector-Jacobian products and N n d numbers of memory.
    """
    released, _, transposed = linearise(release, points)
    rows = []
    for number in range(released[0].numel()):
        chosen = torch.zeros_like(released).flatten(1)
        chosen[:, number] = 1
        rows.append(transposed(chosen.view_as(released)).flatten(1))
    return torch.stack(rows, dim=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class SpectralNorm:
    """Largest singular value of the Jacobian of each row.

    Attributes:
        value: (N,). A Rayleigh quotient, so it is at most the largest singular value.
        vector: (N, ...), unit vectors: the inputs that the release changes most.
        residual: (N,), ``|J^T J v - value^2 v| / value^2``. The relative distance of value^2 from
            an eigenvalue of J^T J is at most this.
    """

    value: Tensor
    vector: Tensor
    residual: Tensor


def spectral_norm(
    release: Release,
    points: Tensor,
    *,
    generator: torch.Generator,
    tolerance: float = 1e-4,
    max_steps: int = 1000,
) -> SpectralNorm:
    """Compute |J|_2 of each row by power iteration on J^T J, with one product with each a step.

    Args:
        release: maps (N, ...) to (N, ...).
        points: (N, ...), where the Jacobian is taken.
        generator: on the CPU; it draws the first vectors.
        tolerance: the iteration stops when the residual of every row is at most this. Rows whose
            two largest singular values are nearer to each other than that are not told apart.
        max_steps: the iteration stops here in any case; the residual then exceeds the tolerance.

    Raises:
        ValueError: the tolerance is not above 0, or there is no step.
    """
    if not tolerance > 0 or max_steps < 1:
        raise ValueError(
            f"tolerance must be above 0 and max_steps 1 or more, got {tolerance:g} and {max_steps}"
        )
    _, product, transposed = linearise(release, points)
    drawn = torch.randn(points.shape, generator=generator, dtype=torch.float64).to(points)
    vectors = drawn.flatten(1) / drawn.flatten(1).norm(dim=1, keepdim=True)
    step = 0
    while True:
        change = product(vectors.view_as(points))
        image = transposed(change).flatten(1)
        square = change.flatten(1).square().sum(1)
        residual = (image - square[:, None] * vectors).norm(dim=1)
        residual = residual / square.clamp_min(torch.finfo(square.dtype).tiny)
        step += 1
        if step == max_steps or bool((residual <= tolerance).all()):
            return SpectralNorm(
                value=square.sqrt(), vector=vectors.view_as(points), residual=residual
            )
        norms = image.norm(dim=1, keepdim=True)
        vectors = torch.where(norms > 0, image / norms.where(norms > 0, 1.0), vectors)


def eta(norm: Tensor, noise: float) -> Tensor:
    """Compute the Fisher information loss ``eta = |J|_2 / sigma = sqrt(lambda_max(I))``: (N,).

    Along every unit direction, the variance of an unbiased estimator is at least 1 / eta^2. The
    unit of eta is 1 / (unit of the secret). Source: Hannun, Guo and van der Maaten (2021),
    "Measuring data leakage in machine-learning models with Fisher information".
    """
    check_noise(noise)
    return norm / noise


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """Trace of J^T J of each row.

    Attributes:
        value: (N,).
        standard_error: (N,), of the probes; 0 where the trace is exact.
    """

    value: Tensor
    standard_error: Tensor


def exact_trace(jacobians: Tensor) -> Trace:
    """Compute tr(J^T J), the sum of squares of the Jacobian: (N, n, d) -> (N,)."""
    value = jacobians.square().sum((1, 2))
    return Trace(value=value, standard_error=torch.zeros_like(value))


def hutchinson_trace(
    release: Release, points: Tensor, *, probes: int, generator: torch.Generator
) -> Trace:
    """Estimate tr(J^T J) = tr(J J^T) without bias, by the mean of |J^T w|^2 over probes w.

    Each probe has fresh Rademacher signs and takes one VJP (Hutchinson 1990).

    Args:
        release: maps (N, ...) to (N, ...).
        points: (N, ...), where the Jacobian is taken.
        probes: number of probes, at least 2.
        generator: on the CPU.

    Raises:
        ValueError: there are fewer than 2 probes, so that there is no standard error.
    """
    if probes < 2:
        raise ValueError(f"probes must be 2 or more for a standard error, got {probes}")
    released, _, transposed = linearise(release, points)
    found = []
    for _ in range(probes):
        signs = torch.randint(2, released.shape, generator=generator).to(released) * 2 - 1
        found.append(transposed(signs).flatten(1).square().sum(1))
    squares = torch.stack(found)
    error = squares.std(dim=0) / probes**0.5
    return Trace(value=squares.mean(0), standard_error=error)


def dfil(trace: Tensor, dimension: int, noise: float) -> Tensor:
    """Compute the trace form ``dFIL = tr(I) / d``: (N,).

    The mean square error of an unbiased estimator over the d coordinates is at least 1 / dFIL.
    Source: Guo et al. (2022), "Bounding training data reconstruction in private (deep) learning".
    """
    check_noise(noise)
    return trace / (dimension * noise**2)
