"""Architectures of torchvision as target and evaluation models.

Every network takes images in [0, 1], normalises them to [-1, 1], ends in a new linear layer called
``head``, and has four ``stages``. Dropout and stochastic depth are left out, because they would
draw from a generator that the seeds of a unit do not control. torchvision is imported when a
network is built.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from atat_ray.models.image_layers import Normalized

# The weight files of DenseNet use names with dots, which torch no longer allows: norm.1 is norm1.
OLD_NAME = re.compile(r"(?<=\.)(norm|conv)\.([12])(?=\.)")


def find_weights(architecture: str) -> Path:
    """Return the path of an architecture's ImageNet weights; download nothing.

    Raises:
        ValueError: the file is missing; the message has its address and where to put it.
    """
    from torchvision.models import get_model_weights

    url = get_model_weights(architecture).DEFAULT.url  # type: ignore[attr-defined]
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        raise ValueError(
            f"the ImageNet weights {path.name} of {architecture} are missing; download {url} into "
            f"{path.parent}, or set weights: none"
        )
    return path


def torchvision_network(architecture: str, weights: str, **settings: Any) -> Any:
    """Build a network of torchvision with drawn or ImageNet weights.

    Raises:
        ValueError: the weights are missing, or their file is damaged.
    """
    from torchvision.models import get_model

    net = get_model(architecture, weights=None, **settings)
    if weights == "none":
        return net
    path = find_weights(architecture)
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        net.load_state_dict({OLD_NAME.sub(r"\1\2", key): value for key, value in state.items()})
    except Exception as error:  # torch raises many types of error on a damaged file
        reason = " ".join(str(error).split())[:100]
        raise ValueError(f"cannot read {path}: {reason}; download the file again") from error
    return net


class Backbone(nn.Module):
    """A stem, four stages, a tail from the last maps to features, and a linear head."""

    def __init__(
        self,
        *,
        stem: nn.Module,
        stages: list[nn.Module],
        tail: nn.Module,
        width: int,
        num_classes: int,
        channels: int,
        side: int | None = None,
    ) -> None:
        """Join the parts; images are resized to ``side`` pixels unless it is None."""
        super().__init__()
        self.channels = channels
        self.normalize = Normalized()
        self.stem = gray_stem(stem) if channels == 1 else stem
        self.blocks = nn.Sequential(*stages)
        self.tail = tail
        self.head = nn.Linear(width, num_classes)
        self.side = side

    def stages(self) -> list[nn.Module]:
        """List the modules whose outputs are the stages, from the image to the head."""
        return list(self.blocks)

    def frozen_part(self, stages: int) -> list[nn.Module]:
        """List the modules of the stem and the first ``stages`` stages."""
        return [self.stem, *self.blocks[:stages]]

    def first_maps(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) in [0, 1] to the input of the first stage, resized to ``side``."""
        if self.side is not None and images.shape[-1] != self.side:
            size = (self.side, self.side)
            images = interpolate(images, size=size, mode="bilinear", antialias=True)
        return self.stem(self.normalize(images))

    def features(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) in [0, 1] to (N, D) penultimate features."""
        return self.tail(self.blocks(self.first_maps(images)))

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) in [0, 1] to (N, num_classes) logits."""
        return self.head(self.features(images))


def gray_stem(stem: nn.Module) -> nn.Module:
    """Make the first convolution take one channel, equivalent to three equal channels."""
    for parent in stem.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d):
                narrow = nn.Conv2d(
                    1,
                    child.out_channels,
                    child.kernel_size,  # type: ignore[arg-type]
                    child.stride,  # type: ignore[arg-type]
                    child.padding,  # type: ignore[arg-type]
                    bias=child.bias is not None,
                )
                with torch.no_grad():
                    narrow.weight.copy_(child.weight.sum(1, keepdim=True))
                    if narrow.bias is not None and child.bias is not None:
                        narrow.bias.copy_(child.bias)
                setattr(parent, name, narrow)
                return stem
    raise AssertionError("every stem begins with a convolution")


class Factor(nn.Module):
    """Multiply maps by a factor; a factor of 0 fits maps of any shape."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, maps: Tensor) -> Tensor:
        """Scale maps of any shape; a scalar 0 replaces maps of zeros."""
        return maps * self.factor if self.factor else maps.new_zeros(())


class Skip:
    """The skip of a residual block of torchvision."""

    def __init__(self, block: Any) -> None:
        self.block = block

    def scale_skip(self, factor: float) -> None:
        """Multiply the skip by a factor; at 0 the skip and its parameters are removed."""
        before = [self.block.downsample] if self.block.downsample is not None else []
        if factor == 0:
            self.block.downsample = Factor(0.0)
        elif factor != 1:
            self.block.downsample = nn.Sequential(*before, Factor(factor))


class ResNet(Backbone):
    """ResNet-18 to -152 (He et al. 2016) and ResNeXt (Xie et al. 2017)."""

    def __init__(self, name: str, *, num_classes: int, channels: int, weights: str) -> None:
        net = torchvision_network(name, weights)
        super().__init__(
            stem=nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool),
            stages=[net.layer1, net.layer2, net.layer3, net.layer4],
            tail=nn.Sequential(net.avgpool, nn.Flatten()),
            width=net.fc.in_features,
            num_classes=num_classes,
            channels=channels,
        )

    def skips(self) -> list[list[Skip]]:
        """List the skips of each stage."""
        return [[Skip(block) for block in stage.children()] for stage in self.blocks]


class DenseNet(Backbone):
    """DenseNet-121 to -201 (Huang et al. 2017); a stage ends before its transition."""

    def __init__(self, name: str, *, num_classes: int, channels: int, weights: str) -> None:
        net = torchvision_network(name, weights)
        parts = net.features
        super().__init__(
            stem=nn.Sequential(parts.conv0, parts.norm0, parts.relu0, parts.pool0),
            stages=[
                parts.denseblock1,
                nn.Sequential(parts.transition1, parts.denseblock2),
                nn.Sequential(parts.transition2, parts.denseblock3),
                nn.Sequential(parts.transition3, parts.denseblock4),
            ],
            tail=nn.Sequential(
                parts.norm5, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()
            ),
            width=net.classifier.in_features,
            num_classes=num_classes,
            channels=channels,
        )


class Inception(Backbone):
    """Inception-v3 (Szegedy et al. 2016), 299 x 299; the layers of a stage share a resolution.

    Its ImageNet weights were trained on images in [-1, 1], which is the range here. The conversion
    from another normalisation, which torchvision adds for these weights, is left out.
    """

    def __init__(
        self, name: str, *, num_classes: int, channels: int, weights: str, auxiliary: bool
    ) -> None:
        net = torchvision_network(name, weights, init_weights=True)
        super().__init__(
            stem=nn.Sequential(
                net.Conv2d_1a_3x3, net.Conv2d_2a_3x3, net.Conv2d_2b_3x3, net.maxpool1
            ),
            stages=[
                nn.Sequential(net.Conv2d_3b_1x1, net.Conv2d_4a_3x3, net.maxpool2),
                nn.Sequential(net.Mixed_5b, net.Mixed_5c, net.Mixed_5d),
                nn.Sequential(net.Mixed_6a, net.Mixed_6b, net.Mixed_6c, net.Mixed_6d, net.Mixed_6e),
                nn.Sequential(net.Mixed_7a, net.Mixed_7b, net.Mixed_7c),
            ],
            tail=nn.Sequential(net.avgpool, nn.Flatten()),
            width=net.fc.in_features,
            num_classes=num_classes,
            channels=channels,
            side=299,
        )
        self.auxiliary: nn.Module | None = None
        self.use_auxiliary = False
        if auxiliary:
            self.auxiliary = net.AuxLogits
            net.AuxLogits.fc = nn.Linear(net.AuxLogits.fc.in_features, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) in [0, 1] to (N, num_classes) logits of the head in use."""
        if self.use_auxiliary and self.auxiliary is not None:
            return self.auxiliary(self.blocks[:3](self.first_maps(images)))
        return super().forward(images)


class Tokens(nn.Module):
    """Turn images into a class token and one token for each patch, with positions."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.patches = net.conv_proj
        self.class_token = net.class_token
        self.positions = net.encoder.pos_embedding

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, 224, 224) to (N, 197, D)."""
        patches = self.patches(images).flatten(2).transpose(1, 2)
        first = self.class_token.expand(len(images), -1, -1)
        return torch.cat([first, patches], dim=1) + self.positions


class ClassToken(nn.Module):
    """Select the class token."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (N, T, D) to (N, D)."""
        return tokens[:, 0]


class VisionTransformer(Backbone):
    """ViT-B/16 (Dosovitskiy et al. 2021), 224 x 224; a stage is three of the twelve layers."""

    def __init__(self, name: str, *, num_classes: int, channels: int, weights: str) -> None:
        net = torchvision_network(name, weights)
        layers = list(net.encoder.layers)
        super().__init__(
            stem=Tokens(net),
            stages=[nn.Sequential(*layers[first : first + 3]) for first in range(0, 12, 3)],
            tail=nn.Sequential(net.encoder.ln, ClassToken()),
            width=net.hidden_dim,
            num_classes=num_classes,
            channels=channels,
            side=224,
        )


FAMILIES: dict[str, type[Backbone]] = {
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), ResNet),
    **dict.fromkeys(("resnext50_32x4d", "resnext101_32x8d"), ResNet),
    **dict.fromkeys(("densenet121", "densenet161", "densenet169", "densenet201"), DenseNet),
    "inception_v3": Inception,
    "vit_b_16": VisionTransformer,
}
