"""Adversarial examples: epsilon and its unit, PGD, and robust accuracy by AutoAttack."""

from atat_ray.robustness.attack_sets import ATTACK_SETS
from atat_ray.robustness.autoattack import Robustness, robust_accuracies

__all__ = ["ATTACK_SETS", "Robustness", "robust_accuracies"]
