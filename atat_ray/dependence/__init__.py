"""Information of features on images: statistical dependence, bounds on estimating the image.

:mod:`~atat_ray.dependence.fisher` has the Fisher information loss of a release with Gaussian noise,
:mod:`~atat_ray.dependence.bounds` the Hammersley-Chapman-Robbins bound of single pixels.

Estimators of dependence take kernel matrices of a batch (:func:`gaussian_kernel`,
:func:`linear_kernel`): :func:`hsic` (unbiased), :func:`cka` (normalised), and those of BiDO:
:func:`nocco`, :func:`coco` and :func:`coco_frobenius`.
:func:`against_permutations` compares an estimate with its permutation null.

>>> import torch
>>> draws = torch.Generator().manual_seed(0)
>>> images = torch.randn(32, 5, generator=draws)
>>> features = images[:, :2]
>>> found = against_permutations(
...     hsic, gaussian_kernel(images), gaussian_kernel(features), permutations=99, generator=draws
... )
>>> found.value > found.null_mean, found.p_value
(True, 0.01)
"""

from atat_ray.dependence.hsic import (
    Dependence,
    against_permutations,
    cka,
    coco,
    coco_frobenius,
    hsic,
    nocco,
)
from atat_ray.dependence.kernels import gaussian_kernel, linear_kernel

__all__ = [
    "Dependence",
    "against_permutations",
    "cka",
    "coco",
    "coco_frobenius",
    "gaussian_kernel",
    "hsic",
    "linear_kernel",
    "nocco",
]
