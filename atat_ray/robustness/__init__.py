"""Adversarial examples: epsilon and its unit, PGD, and robust accuracy under AutoAttack.

Epsilon is an L-infinity radius in pixel units, for images in [0, 1]; 8 gray levels are 8/255.
:func:`pgd` perturbs a batch. :func:`robust_masks` attacks images with one of :data:`ATTACK_SETS`
and :func:`robust_accuracies` turns the result into accuracies.

>>> import torch
>>> from atat_ray.models import build_target
>>> from atat_ray.utils.seeding import BatchDraws, generator
>>> model = build_target("small_resnet", num_classes=4, channels=1, seed=0).eval()
>>> images, labels = torch.rand(8, 1, 32, 32), torch.arange(8) % 4
>>> perturbed = pgd(
...     model, images, labels, epsilon=4 / 255, steps=3, step_size=2 / 255, targeted=True,
...     random_start=False, draws=BatchDraws(generator("example")),
... )
>>> perturbed.shape, bool((perturbed - images).abs().max() <= 4 / 255 + 1e-6)
(torch.Size([8, 1, 32, 32]), True)
"""

from atat_ray.robustness.attack_sets import ATTACK_SETS
from atat_ray.robustness.autoattack import Robustness, robust_accuracies, robust_masks
from atat_ray.robustness.pgd import pgd

__all__ = ["ATTACK_SETS", "Robustness", "pgd", "robust_accuracies", "robust_masks"]
