"""Training-time defenses: one file each, and the registry that finds them by name."""

from atat_ray.defenses.registry import DEFENSES, defense_name, find_defense
from atat_ray.training.interface import Defense, LossTerms, prepare

__all__ = ["DEFENSES", "Defense", "LossTerms", "defense_name", "find_defense", "prepare"]
