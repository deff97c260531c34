"""Options of the augmentation: ranges in which images stay images."""

import pytest
import torch

from atat_ray.data.augmentation import Augmentation, augment
from atat_ray.utils.seeding import BatchDraws, generator


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": (0.0, 1.0)}, r"scale must be .* above 0, got \(0, 1\)"),
        ({"scale": (1.1, 0.9)}, r"got \(1\.1, 0\.9\)"),
        ({"rotation": -1.0}, "rotation must be between 0 and 180, got -1"),
        ({"shift": 1.5}, "shift must be between 0 and 1, got 1.5"),
        ({"brightness": float("nan")}, "brightness must be between 0 and 1, got nan"),
        ({"contrast": 2.0}, "contrast must be between 0 and 1, got 2"),
    ],
)
def test_ranges_in_which_images_would_vanish_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**change)


def test_the_widest_ranges_give_images_in_0_1():
    widest = Augmentation(rotation=180, scale=(0.01, 100), shift=1, brightness=1, contrast=1)
    images = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    made = augment(images, widest, BatchDraws(generator(1)))
    assert made.shape == images.shape
    assert made.isfinite().all()
    assert 0 <= made.min() <= made.max() <= 1
