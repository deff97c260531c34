import numpy as np
import pytest
import torch

from atat_ray.data.splits import Faces
from atat_ray.metrics.attack_accuracy import hits, hits_by_class
from atat_ray.metrics.feature_distance import nearest_of_class
from atat_ray.models.lda import ShrinkageLda
from atat_ray.seeding import generator


@pytest.mark.parametrize("k", [1, 2, 5])
def test_hits_are_the_ranks_by_brute_force(k):
    scores = torch.rand(40, 7, generator=generator(1))
    classes = torch.randint(7, (40,), generator=generator(2))
    expected = [
        classes[i] in np.argsort(-scores[i].numpy(), kind="stable")[:k].tolist() for i in range(40)
    ]
    assert hits(scores, classes, k).tolist() == expected


def test_a_constant_evaluator_recognises_nobody():
    assert not hits(torch.ones(5, 4), torch.arange(5) % 4, 1).any()


def test_hits_by_class_add_up():
    hit = torch.tensor([True, False, True, True, False])
    classes = torch.tensor([0, 0, 2, 2, 1])
    k, n = hits_by_class(hit, classes, 4)
    assert k.tolist() == [1, 0, 2, 0]
    assert n.tolist() == [2, 1, 2, 0]


def test_nearest_image_of_the_class_by_brute_force():
    features = torch.randn(9, 6, generator=generator(1))
    train = torch.randn(15, 6, generator=generator(2))
    classes, labels = torch.arange(9) % 3, torch.arange(15) % 3
    distances, rows = nearest_of_class(features, classes, train, labels)
    for i in range(9):
        of_class = {
            j: float(((features[i] - train[j]) ** 2).sum() ** 0.5)
            for j in range(15)
            if labels[j] == classes[i]
        }
        best = min(of_class, key=of_class.__getitem__)
        assert int(rows[i]) == best
        assert float(distances[i]) == pytest.approx(of_class[best], rel=1e-5)


def test_lda_is_gaussian_classification_written_out():
    images = torch.rand(40, 1, 32, 32, generator=generator(1))
    labels = torch.arange(40) % 4
    images[labels == 2, :, :16] *= 0.5
    lda = ShrinkageLda(num_classes=4).fit(Faces(images=images, labels=labels), shrinkage=0.3)

    def pixels(of):
        small = of.view(-1, 16, 2, 16, 2).mean(dim=(2, 4)).flatten(1).double().numpy()
        small = small - small.mean(1, keepdims=True)
        return small / np.linalg.norm(small, axis=1, keepdims=True)

    x = np.concatenate([pixels(images), pixels(images.flip(3))])
    y = np.concatenate([labels.numpy()] * 2)
    means = np.stack([x[y == c].mean(0) for c in range(4)])
    covariance = np.cov((x - means[y]).T, bias=True)
    shrunk = 0.7 * covariance + 0.3 * np.trace(covariance) / 256 * np.eye(256)
    inverse = np.linalg.inv(shrunk)
    probe = pixels(images[:5])
    expected = -0.5 * np.stack([((probe - m) @ inverse * (probe - m)).sum(1) for m in means], 1)
    found = lda(images[:5]).numpy()
    # Equal up to what does not depend on the class.
    assert np.allclose(found - found[:, :1], expected - expected[:, :1], atol=1e-3)
