"""Networks from images in [0, 1] to logits, and access to their layers.

:func:`build_target` builds a network of :data:`ARCHITECTURES` from a seed. Normalisation to [-1, 1]
is inside the network, so epsilon stays in pixel units. Defenses reach stages, skips and the head
through :mod:`atat_ray.models.layer_access`.

>>> import torch
>>> model = build_target("small_resnet", num_classes=4, channels=1, seed=0)
>>> model(torch.rand(2, 1, 32, 32)).shape
torch.Size([2, 4])
"""

from atat_ray.models.build import ARCHITECTURES, build_target, check_architecture, new_network

__all__ = ["ARCHITECTURES", "build_target", "check_architecture", "new_network"]
