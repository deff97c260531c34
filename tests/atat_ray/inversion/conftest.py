import pytest
import torch

from atat_ray.inversion.interface import Scope


@pytest.fixture
def scope_of():
    """Return a function that makes the scope of an attack on all classes, on the CPU."""

    def make(num_classes):
        part = range(num_classes)
        return Scope(num_classes=num_classes, part=part, seed=4, device=torch.device("cpu"))

    return make
