"""Metrics of reconstructions: attack accuracy, distances in feature space, knowledge extraction.

All of them take scores or features, tensors with one row an image, so that any evaluation model can
provide them.

>>> import torch
>>> scores = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1]])  # of two images, three classes
>>> hits(scores, torch.tensor([0, 0]), k=1).tolist()
[True, False]
>>> real = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
>>> round(frechet_distance(real, real + 2), 6)  # equal covariances; means differ by (2, 2)
8.0
>>> prdc(real, real, k=1)["coverage"]
1.0
"""

from atat_ray.metrics.attack_accuracy import hits, hits_by_class
from atat_ray.metrics.feature_distance import nearest_of_class
from atat_ray.metrics.frechet import frechet_distance
from atat_ray.metrics.knowledge_extraction import knowledge_extraction_score
from atat_ray.metrics.prdc import prdc, prdc_by_class

__all__ = [
    "frechet_distance",
    "hits",
    "hits_by_class",
    "knowledge_extraction_score",
    "nearest_of_class",
    "prdc",
    "prdc_by_class",
]
