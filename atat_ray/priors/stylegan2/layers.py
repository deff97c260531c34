"""Layers of StyleGAN2 as plain convolutions (Karras et al. 2020, Sec. 2.2).

Parameters and buffers have the names and shapes of the public checkpoints. Weights are scaled when
they are used ("equalized learning rate"), so that a checkpoint loads without conversion.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu, linear

TINY = 1e-8  # added to sums of squares before a root, as in the paper's Eq. 3
GAIN = math.sqrt(2)  # restores the variance after a leaky ReLU


def binomial_filter() -> Tensor:
    """Return the (4, 4) low-pass filter of StyleGAN2: [1, 3, 3, 1] along both axes, sum one."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / taps.sum() ** 2


def upsample(images: Tensor, taps: Tensor) -> Tensor:
    """Double the sides of images (N, C, H, W): insert zeros, then apply the filter (4, 4).

    One transposed convolution does both; the factor 4 compensates for the zeros.
    """
    channels = images.shape[1]
    weight = (4 * taps).expand(channels, 1, *taps.shape)
    return conv_transpose2d(images, weight, stride=2, padding=1, groups=channels)


def modulated_conv(
    features: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    demodulate: bool = True,
    upsampling: Tensor | None = None,
) -> Tensor:
    """Convolve each image with weights scaled by its own style (Eq. 1 to 3 of the paper).

    Args:
        features: (N, I, H, W).
        weight: (O, I, k, k), k odd.
        styles: (N, I), factors of the input channels.
        demodulate: whether every output channel is scaled to unit expected variance.
        upsampling: filter (4, 4). If given, the sides are doubled: zeros are inserted between the
            pixels, followed by a true convolution with ``weight`` (k = 3) and by the filter.

    Returns:
        (N, O, H, W), or (N, O, 2 H, 2 W).
    """
    num, inputs, height, width = features.shape
    weights = weight * styles[:, None, :, None, None]
    if demodulate:
        power = weights.square().sum(dim=(2, 3, 4), keepdim=True)
        weights = weights * (power + TINY).rsqrt()
    # One group for each image: one convolution applies different weights to each image.
    features = features.reshape(1, num * inputs, height, width)
    if upsampling is None:
        made = conv2d(features, weights.flatten(0, 1), padding=weight.shape[-1] // 2, groups=num)
        return made.view(num, -1, height, width)
    weights = weights.transpose(1, 2).flatten(0, 1)
    made = conv_transpose2d(features, weights, stride=2, groups=num)  # 2 H + 1 rows
    channels = made.shape[1]
    taps = (4 * upsampling).flip(0, 1).expand(channels, 1, *upsampling.shape)
    return conv2d(made, taps, padding=1, groups=channels).view(num, -1, 2 * height, 2 * width)


def limit(features: Tensor, clamp: float | None) -> Tensor:
    """Clamp features to [-clamp, clamp] if clamp is given, as training in half precision does."""
    return features if clamp is None else features.clamp(-clamp, clamp)


class Dense(nn.Module):
    """A linear layer (N, inputs) -> (N, outputs), with a leaky ReLU if asked.

    Args:
        inputs: length of the input vectors.
        outputs: length of the output vectors.
        multiplier: learning rate multiplier; weights and biases are scaled by it when used.
        activate: whether a leaky ReLU of slope 0.2, scaled by sqrt(2), is applied.
        bias: initial value of the biases.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        multiplier: float = 1.0,
        activate: bool = False,
        bias: float = 0.0,
    ) -> None:
        super().__init__()
        self.multiplier = multiplier
        self.activate = activate
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias))

    def forward(self, vectors: Tensor) -> Tensor:
        """Map vectors (N, inputs) to (N, outputs)."""
        scale = self.multiplier / math.sqrt(self.weight.shape[1])
        made = linear(vectors, self.weight * scale, self.bias * self.multiplier)
        return leaky_relu(made, 0.2) * GAIN if self.activate else made


class StyledConv(nn.Module):
    """A modulated 3 x 3 convolution, constant noise, bias and leaky ReLU.

    Args:
        inputs: number of input channels.
        outputs: number of output channels.
        style_dim: length of w.
        resolution: side of the output in pixels.
        upsampling: whether the sides are doubled.
        clamp: largest magnitude of the output, or None.
    """

    noise_const: Tensor
    resample_filter: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        style_dim: int,
        resolution: int,
        upsampling: bool,
        clamp: float | None,
    ) -> None:
        super().__init__()
        self.upsampling = upsampling
        self.clamp = clamp
        self.affine = Dense(style_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.register_buffer("resample_filter", binomial_filter())

    def forward(self, features: Tensor, style: Tensor, *, noise: bool) -> Tensor:
        """Map features (N, inputs, H, W) and w (N, style_dim) to (N, outputs, H', W').

        The noise is the checkpoint's constant noise or none. It is never drawn, because an attack
        needs the same image for the same state.
        """
        taps = self.resample_filter if self.upsampling else None
        features = modulated_conv(features, self.weight, self.affine(style), upsampling=taps)
        if noise:
            features = features + self.noise_const * self.noise_strength
        features = leaky_relu(features + self.bias[:, None, None], 0.2) * GAIN
        return limit(features, self.clamp)


class ToRgb(nn.Module):
    """A modulated 1 x 1 convolution to colours, without demodulation."""

    def __init__(
        self, inputs: int, outputs: int, *, style_dim: int, clamp: float | None = None
    ) -> None:
        super().__init__()
        self.clamp = clamp
        self.affine = Dense(style_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        """Map features (N, inputs, H, W) and w (N, style_dim) to colours (N, outputs, H, W)."""
        styles = self.affine(style) / math.sqrt(self.weight.shape[1])
        made = modulated_conv(features, self.weight, styles, demodulate=False)
        return limit(made + self.bias[:, None, None], self.clamp)
