"""Knowledge extraction score: accuracy on real people after training on reconstructions only."""

from torch import nn

from atat_ray.data import Faces
from atat_ray.training import Training, accuracy, train
from atat_ray.training.no_defense import NoDefense


def knowledge_extraction_score(
    model: nn.Module, reconstructions: Faces, real: Faces, training: Training, *, seed: int
) -> float:
    """Train a network on reconstructions and measure its accuracy on real images.

    Args:
        model: untrained network with one output for each attacked class; trained in place.
        reconstructions: images in [0, 1] and their target classes.
        real: images of the private people and their classes.
        training: schedule of the training.
        seed: seed of order and augmentation.
    """
    train(model, reconstructions, NoDefense(), training, seed=seed)
    return accuracy(model, real)
