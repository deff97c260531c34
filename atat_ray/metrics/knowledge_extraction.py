"""Knowledge extraction: what a network learns about real people from reconstructions alone."""

from torch import nn

from atat_ray.data import Faces
from atat_ray.training import Training, accuracy, train
from atat_ray.training.no_defense import NoDefense


def knowledge_extraction_score(
    model: nn.Module, reconstructions: Faces, real: Faces, training: Training, *, seed: int
) -> float:
    """Train a network on reconstructions and measure its accuracy on real images.

    Args:
        model: untrained, of as many classes as were attacked; trained in place.
        reconstructions: images in [0, 1] with the class that each was made for.
        real: images of the private people, with their classes.
        training: the schedule.
        seed: of order and augmentation.
    """
    train(model, reconstructions, NoDefense(), training, seed=seed)
    return accuracy(model, real)
