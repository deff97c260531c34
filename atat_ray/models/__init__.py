"""Networks from images in [0, 1] to logits, and access to their layers."""

from atat_ray.models.build import ARCHITECTURES, build_target, check_architecture, new_network

__all__ = ["ARCHITECTURES", "build_target", "check_architecture", "new_network"]
