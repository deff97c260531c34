"""Mapping and synthesis networks of StyleGAN2 (Karras et al. 2020; skip connections, Sec. 4.1)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atat_ray.priors.stylegan2.layers import (
    TINY,
    Dense,
    StyledConv,
    ToRgb,
    binomial_filter,
    upsample,
)

MAPPING_MULTIPLIER = 0.01  # learning rate multiplier of the mapping network


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Sizes of a generator.

    Attributes:
        latent_dim: length of z.
        style_dim: length of w.
        num_layers: number of layers of the mapping network.
        channels: number of channels of the blocks of 4, 8, 16, ... pixels.
        image_channels: 3 for colour images.
    """

    latent_dim: int
    style_dim: int
    num_layers: int
    channels: tuple[int, ...]
    image_channels: int = 3

    @property
    def resolution(self) -> int:
        """Return the side of the images in pixels."""
        return 2 * 2 ** len(self.channels)

    @property
    def num_styles(self) -> int:
        """Count the layers that take a w each: 18 at 1024 pixels."""
        return 2 * len(self.channels)


class Mapping(nn.Module):
    """Mapping network from z to w, with the mean of w for truncation."""

    w_avg: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.num_layers = shape.num_layers
        for layer in range(shape.num_layers):
            inputs = shape.latent_dim if layer == 0 else shape.style_dim
            dense = Dense(inputs, shape.style_dim, multiplier=MAPPING_MULTIPLIER, activate=True)
            self.add_module(f"fc{layer}", dense)
        self.register_buffer("w_avg", torch.zeros(shape.style_dim))

    def forward(self, latents: Tensor) -> Tensor:
        """Map z (N, latent_dim), of any norm, to w (N, style_dim) without truncation."""
        styles = latents * (latents.square().mean(dim=1, keepdim=True) + TINY).rsqrt()
        for layer in range(self.num_layers):
            styles = self.get_submodule(f"fc{layer}")(styles)
        return styles

    def truncate(self, styles: Tensor, psi: float, cutoff: int, num_styles: int) -> Tensor:
        """Move w (N, style_dim) towards its mean in the first ``cutoff`` layers.

        Implements Karras et al. 2019, Appendix B: mean + psi (w - mean).

        Returns:
            (N, 1, style_dim) if all layers have the same w, else (N, num_styles, style_dim).
        """
        truncated = self.w_avg + psi * (styles - self.w_avg)
        if psi == 1 or cutoff >= num_styles:
            return (styles if psi == 1 else truncated)[:, None]
        low = truncated[:, None].expand(-1, cutoff, -1)
        return torch.cat([low, styles[:, None].expand(-1, num_styles - cutoff, -1)], dim=1)


class Block(nn.Module):
    """Layers of one resolution: one or two styled convolutions, and a contribution to the image.

    Args:
        inputs: channels of the previous block; 0 for the first block, which starts from a constant.
        outputs: channels of this block.
        resolution: side in pixels.
        shape: sizes of the generator.
        clamp: largest magnitude of features, or None.
    """

    resample_filter: Tensor

    def __init__(
        self, inputs: int, outputs: int, resolution: int, shape: Shape, clamp: float | None
    ) -> None:
        super().__init__()
        self.num_convs = 2 if inputs else 1
        settings = {"style_dim": shape.style_dim, "resolution": resolution, "clamp": clamp}
        self.register_buffer("resample_filter", binomial_filter())
        if inputs:
            self.conv0 = StyledConv(inputs, outputs, upsampling=True, **settings)
        else:
            self.const = nn.Parameter(torch.randn(outputs, resolution, resolution))
        self.conv1 = StyledConv(outputs, outputs, upsampling=False, **settings)
        self.torgb = ToRgb(outputs, shape.image_channels, style_dim=shape.style_dim, clamp=clamp)

    def forward(
        self, features: Tensor | None, image: Tensor | None, styles: Tensor, *, noise: bool
    ) -> tuple[Tensor, Tensor]:
        """Map features and partial image of the previous block to those of this resolution.

        Args:
            features: (N, inputs, H/2, W/2), or None in the first block.
            image: partial image (N, image_channels, H/2, W/2), or None in the first block.
            styles: (N, num_convs + 1, style_dim); the last is for the colours.
            noise: whether the constant noise is added.
        """
        if features is None:
            inputs = self.const.expand(len(styles), -1, -1, -1)
        else:
            inputs = self.conv0(features, styles[:, 0], noise=noise)
        outputs = self.conv1(inputs, styles[:, self.num_convs - 1], noise=noise)
        colours = self.torgb(outputs, styles[:, self.num_convs])
        if image is not None:
            colours = upsample(image, self.resample_filter) + colours
        return outputs, colours


class Synthesis(nn.Module):
    """Synthesis network from one w for each layer to an image, block by block."""

    def __init__(self, shape: Shape, clamp: float | None = None) -> None:
        super().__init__()
        self.num_styles = shape.num_styles
        self.names = [f"b{4 * 2**index}" for index in range(len(shape.channels))]
        for index, (name, outputs) in enumerate(zip(self.names, shape.channels, strict=True)):
            inputs = shape.channels[index - 1] if index else 0
            self.add_module(name, Block(inputs, outputs, 4 * 2**index, shape, clamp))

    def advance(
        self,
        index: int,
        features: Tensor | None,
        image: Tensor | None,
        styles: Tensor,
        *,
        noise: bool,
    ) -> tuple[Tensor, Tensor]:
        """Run block ``index``, from 0, with styles w (N, 1 or num_styles, style_dim).

        The colours of a block use the same w as the first convolution of the next block.
        """
        first, count = (2 * index - 1, 3) if index else (0, 2)
        chosen = styles.expand(-1, self.num_styles, -1)[:, first : first + count]
        return self.get_submodule(self.names[index])(features, image, chosen, noise=noise)


class Generator(nn.Module):
    """Mapping and synthesis; ``state_dict`` has the names of G_ema in the public checkpoints.

    Args:
        shape: sizes of all layers.
        clamp: largest magnitude of features for generators trained in half precision, or None.
    """

    def __init__(self, shape: Shape, clamp: float | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.clamp = clamp
        self.mapping = Mapping(shape)
        self.synthesis = Synthesis(shape, clamp)
