"""Model inversion attacks: one file each, and the registry that finds them by name."""

from atat_ray.inversion.registry import ATTACKS, Attack, invert

__all__ = ["ATTACKS", "Attack", "invert"]
