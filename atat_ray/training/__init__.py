"""The training loop, its schedule and checkpoints, and the interface of a defense."""

from atat_ray.training.loop import accuracy, train
from atat_ray.training.schedule import Training

__all__ = ["Training", "accuracy", "train"]
