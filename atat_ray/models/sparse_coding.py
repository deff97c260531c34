"""Sparse codes of images by the locally competitive algorithm."""

from math import ceil, isqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, pad, pixel_unshuffle, relu
from torch.nn.grad import conv2d_weight
from torch.utils.checkpoint import checkpoint

FREQUENCIES = 16  # for each offset of an atom, along each side, at which a gain is computed
KEPT = 32  # iterations whose values are all kept for the gradient; of more, parts are repeated
NO_DRAWS: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}


class SparseCoding(nn.Module):
    """Convolutional sparse coding (Rozell et al. 2008), differentiable through every iteration.

    The iterations move the codes a towards the minimum of ``|x - sum a phi|^2 / 2 + threshold sum
    a`` over a >= 0, where x is the image with mean 0 and (sample) variance 1. An iteration sets
    ``a = relu(u - threshold)``, then ``u += (b - u - (G - 1) a) / tau``, where b are the
    correlations of the image with the dictionary and G those of the atoms with each other. u starts
    at 0. As in the published code of SCA, a of the last iteration is returned, so that ``iterations
    - 1`` changes of u count.
    """

    def __init__(
        self,
        *,
        channels: int,
        atoms: int,
        kernel: int,
        stride: int,
        threshold: float,
        tau: float,
        iterations: int,
        generator: torch.Generator,
    ) -> None:
        """Draw a dictionary of normal numbers, cut at two deviations, with atoms of norm 1.

        Raises:
            ValueError: the iteration does not settle at this ``tau``; see :func:`check_tau`.
        """
        super().__init__()
        dictionary = torch.empty(atoms, channels, kernel, kernel)
        nn.init.trunc_normal_(dictionary, generator=generator)
        self.dictionary = nn.Buffer(unit_norm(dictionary))
        check_tau(tau, gain(self.dictionary, stride))
        self.stride = stride
        if kernel % 2:
            before = after = kernel // 2
        else:
            before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
        self.padding = (before, after, before, after)
        self.threshold = threshold
        self.tau = tau
        self.iterations = iterations
        self.last: tuple[Tensor, Tensor] | None = None

    def lateral(self) -> Tensor:
        """Correlate the atoms at every offset of the grid, without each atom with itself."""
        reach = (self.dictionary.shape[-1] - 1) // self.stride
        lateral = conv2d(
            self.dictionary, self.dictionary, stride=self.stride, padding=reach * self.stride
        )
        own = torch.eye(len(lateral), device=lateral.device)
        lateral[:, :, reach, reach] -= own * lateral[:, :, reach, reach].diagonal()
        return lateral

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to codes (N, atoms, H / stride, W / stride), at least 0.

        Outside the image there are zeros.

        Raises:
            ValueError: H or W is not a multiple of the stride.
        """
        height, width = images.shape[2:]
        if height % self.stride or width % self.stride:
            raise ValueError(
                f"the stride of sparse coding must divide the sides of the images, got "
                f"{self.stride} and {height} x {width}; choose another stride"
            )
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        variance = images.var(dim=(1, 2, 3), keepdim=True)
        # The least number keeps the gradient of a constant image finite.
        deviation = variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()
        inputs = pad((images - mean) / (deviation + 1e-12), self.padding)
        drive = conv2d(inputs, self.dictionary, stride=self.stride)
        u, lateral, left = torch.zeros_like(drive), self.lateral(), self.iterations - 1
        part = left if left <= KEPT else isqrt(left) + 1
        while left > part:
            u = checkpoint(self.iterate, u, drive, lateral, part, **NO_DRAWS)
            left -= part
        codes = relu(self.iterate(u, drive, lateral, left) - self.threshold)
        if self.training:
            self.last = inputs.detach(), codes.detach()
        return codes

    def iterate(self, u: Tensor, drive: Tensor, lateral: Tensor, count: int) -> Tensor:
        """Apply ``count`` changes of u."""
        reach = lateral.shape[-1] // 2
        for _ in range(count):
            codes = relu(u - self.threshold)
            u = u + (drive - u - conv2d(codes, lateral, padding=reach)) / self.tau
        return u

    @torch.no_grad()
    def change(self) -> tuple[Tensor, Tensor]:
        """Compute the Hebbian change of the dictionary, residual times code, and the codes' energy.

        Both are sums over the batch, so that they can be averaged over workers that share it.

        Returns:
            (atoms, channels, kernel, kernel), of the shape of the dictionary; and (atoms,).
        """
        assert self.last is not None, "the layer must be run in training mode first"
        inputs, codes = self.last
        shown = conv_transpose2d(codes, self.dictionary, stride=self.stride)
        rest = inputs.shape[-1] - shown.shape[-1]  # of the padding, which no code reaches
        residual = inputs - pad(shown, (0, rest, 0, rest))
        change = conv2d_weight(residual, self.dictionary.shape, codes, stride=self.stride)
        return change, codes.square().sum(dim=(0, 2, 3))

    @torch.no_grad()
    def learn(self, change: Tensor, energy: Tensor, rate: float) -> None:
        """Add a change to the dictionary and rescale its atoms to unit norm.

        The change of an atom is divided by the energy of its codes. A rate of 1 would move an atom
        to its optimum if the other atoms were fixed.
        """
        relative = change / energy.clamp_min(1e-6).view(-1, 1, 1, 1)
        self.dictionary.copy_(unit_norm(self.dictionary + rate * relative))


def unit_norm(dictionary: Tensor) -> Tensor:
    """Scale each atom to norm 1."""
    return dictionary / dictionary.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)


def gain(dictionary: Tensor, stride: int) -> float:
    """Compute the largest eigenvalue of G, the correlations of all atoms at all positions.

    On an unbounded grid G is a convolution. Its largest eigenvalue is the largest squared singular
    value, over all frequencies, of the Fourier transform of the atoms' phases. An image is a part
    of that grid, so its eigenvalues are at most as large.
    """
    side = dictionary.shape[-1]
    rest = -side % stride
    phases = pixel_unshuffle(pad(dictionary, (0, rest, 0, rest)), stride)
    offsets = phases.shape[-1]
    grid = FREQUENCIES * offsets if offsets > 1 else 1
    symbols = torch.fft.rfft2(phases.double(), s=(grid, grid)).permute(2, 3, 0, 1)
    return float(torch.linalg.matrix_norm(symbols, ord=2).max()) ** 2


def largest_gain(atoms: int, kernel: int, stride: int) -> float:
    """Compute the largest possible :func:`gain`, that of equal and constant atoms."""
    return float(atoms * ceil(kernel / stride) ** 2)


def check_tau(tau: float, largest: float, why: str = "") -> None:
    """Refuse a tau at which the iteration of sparse coding grows without bound.

    A change of u multiplies an error along an eigenvector of G by 1 - eigenvalue / tau while its
    codes are active, so the iteration settles if ``tau`` is above half the largest eigenvalue.

    Args:
        tau: divisor of the changes.
        largest: largest eigenvalue of G.
        why: what the dictionary is, for the error message.

    Raises:
        ValueError: the message has the smallest tau that is safe.
    """
    if tau <= largest / 2:
        raise ValueError(
            f"tau {tau:g} is too small for {why or 'this dictionary'}: the codes grow without "
            f"bound at {largest / 2:.3g} or less; set tau to {ceil(largest)} or more, or use fewer "
            "atoms, a smaller kernel or a larger stride"
        )
