"""Images of no one, for tests of training."""

import pytest
import torch

from atat_ray.data import Faces
from atat_ray.utils.seeding import generator


@pytest.fixture
def faces():
    images = torch.rand(20, 1, 32, 32, generator=generator("faces"))
    return Faces(images=images, labels=torch.arange(20) % 4)


@pytest.fixture
def batch(faces):
    return faces.images[:8], faces.labels[:8]
