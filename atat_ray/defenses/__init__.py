"""Training-time defenses: one file each, and the registry that finds them by name."""

from atat_ray.defenses.registry import DEFENSES
from atat_ray.training.interface import Defense, LossTerms

__all__ = ["DEFENSES", "Defense", "LossTerms"]
