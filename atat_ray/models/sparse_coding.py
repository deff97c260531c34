"""Sparse codes of images by the locally competitive algorithm."""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, pad, relu
from torch.nn.grad import conv2d_weight


class SparseCoding(nn.Module):
    """Convolutional sparse coding (Rozell et al. 2008), differentiable through every iteration.

    The codes a minimise ``|x - sum a phi|^2 / 2 + threshold sum a`` over a >= 0, where x is the
    image with mean 0 and variance 1. An iteration is ``u += (b - u - (G - 1) a) / tau``, ``a =
    relu(u - threshold)``, where b are the correlations of the image with the dictionary and G those
    of the atoms with each other.
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
        super().__init__()
        dictionary = torch.randn(atoms, channels, kernel, kernel, generator=generator)
        self.dictionary = nn.Buffer(unit_norm(dictionary))
        self.stride = stride
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

        H and W are multiples of the stride; outside the image there are zeros.
        """
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        variance = images.var(dim=(1, 2, 3), keepdim=True, correction=0)
        inputs = (images - mean) / (variance + 1e-12).sqrt()
        inputs = pad(inputs, self.padding)
        drive = conv2d(inputs, self.dictionary, stride=self.stride)
        lateral = self.lateral()
        reach = lateral.shape[-1] // 2
        u, codes = torch.zeros_like(drive), torch.zeros_like(drive)
        for _ in range(self.iterations):
            u = u + (drive - u - conv2d(codes, lateral, padding=reach)) / self.tau
            codes = relu(u - self.threshold)
        if self.training:
            self.last = inputs.detach(), codes.detach()
        return codes

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
        change = conv2d_weight(inputs - shown, self.dictionary.shape, codes, stride=self.stride)
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
