"""Target model of the embedded trial: a residual network of 0.3 M parameters for 64 x 64."""

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, pixel_unshuffle, relu

from atat_ray.models.image_layers import Normalized


class PatchConv2d(nn.Conv2d):
    """Convolve over patches of 4 x 4 pixels; a patch is one position with 16 times the channels.

    The patches are cut in the memory format of the weights, which saves a copy.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, 4 H, 4 W) to (N, outputs, H', W')."""
        if self.weight.is_contiguous(memory_format=torch.channels_last):
            n, c, height, width = input.shape
            cut = input.reshape(n, c, height // 4, 4, width // 4, 4).permute(0, 2, 4, 1, 3, 5)
            rows = cut.reshape(n, height // 4, width // 4, 16 * c)
            return super().forward(rows.permute(0, 3, 1, 2))
        return super().forward(pixel_unshuffle(input, 4))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a skip (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.scale = 1.0
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.skip: nn.Module = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.skip = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def scale_skip(self, scale: float) -> None:
        """Set the factor of the skip; at 0 the skip and its parameters are removed."""
        self.scale = scale
        if scale == 0:
            self.skip = nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        # In place where the values are not needed again: memory limits the speed here.
        hidden = relu(self.norm1(self.conv1(maps)), inplace=True)
        hidden = self.norm2(self.conv2(hidden))
        if self.scale == 1:
            hidden += self.skip(maps)
        elif self.scale != 0:
            hidden += self.scale * self.skip(maps)
        return relu(hidden, inplace=True)


class SmallResNet(nn.Module):
    """Stem of 8 x 8 patches at stride 4, four basic blocks of 16 to 128 channels, a linear head."""

    def __init__(self, *, num_classes: int, channels: int = 1) -> None:
        super().__init__()
        self.channels = channels
        self.normalize = Normalized()
        # An 8 x 8 convolution of stride 4, written as 2 x 2 over patches of 4 x 4. Its gradient at
        # the image, which PGD and inversion need, takes less than half the time on a CPU.
        self.stem = nn.Sequential(
            nn.ZeroPad2d(2), nn.Identity(), PatchConv2d(16 * channels, 16, 2, bias=False)
        )
        self.norm = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(
            BasicBlock(16, 16, 1),
            BasicBlock(16, 32, 2),
            BasicBlock(32, 64, 2),
            BasicBlock(64, 128, 2),
        )
        self.head = nn.Linear(128, num_classes)

    def stages(self) -> list[nn.Module]:
        """List the modules whose outputs are the stages, from the image to the head."""
        return list(self.blocks)

    def skips(self) -> list[list[nn.Module]]:
        """List the residual blocks of each stage; each block has ``scale_skip``."""
        return [[block] for block in self.blocks]

    def frozen_part(self, stages: int) -> list[nn.Module]:
        """List the modules of the stem and the first ``stages`` stages."""
        return [self.stem, self.norm, *self.blocks[:stages]]

    def features(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) in [0, 1] to (N, 128) penultimate features.

        Raises:
            ValueError: H or W is not a multiple of 4.
        """
        if images.shape[2] % 4 or images.shape[3] % 4:
            raise ValueError(
                f"small_resnet needs images whose sides are multiples of 4, got "
                f"{images.shape[2]} x {images.shape[3]}; choose another size, stride or network"
            )
        maps = relu(self.norm(self.stem(self.normalize(images))), inplace=True)
        return adaptive_avg_pool2d(self.blocks(maps), 1).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) in [0, 1] to (N, num_classes) logits."""
        return self.head(self.features(images))
