"""What tests of training share: a small target model, random draws, and losses by hand."""

from atat_ray.models import build_target
from atat_ray.training import Training
from atat_ray.training.interface import Course
from atat_ray.utils.seeding import BatchDraws, generator

TRAINING = Training(epochs=4, batch_size=8, learning_rate=0.003, weight_decay=0.01)


def draws(seed=0):
    return BatchDraws(generator(seed))


def small(defense=None, seed=3):
    """A target model of 4 classes of 32 x 32 gray images, prepared for a defense."""
    model = build_target("small_resnet", num_classes=4, channels=1, seed=5)
    return model if defense is None else defense.prepare(model, public=None, seed=seed)


def begun(defense, model, faces):
    """The session of a defense at the start of a training on these faces."""
    return defense.begin(model, Course(faces=faces, training=TRAINING, steps_per_epoch=2, seed=1))


def nll(logits, labels):
    """Cross-entropy of each row."""
    return -logits.log_softmax(1)[range(len(labels)), labels]
