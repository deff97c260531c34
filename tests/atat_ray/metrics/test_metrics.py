import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from atat_ray.data import Faces
from atat_ray.data.augmentation import Augmentation
from atat_ray.metrics.attack_accuracy import hits, hits_by_class
from atat_ray.metrics.feature_distance import nearest_of_class
from atat_ray.metrics.frechet import frechet_distance
from atat_ray.metrics.knowledge_extraction import knowledge_extraction_score
from atat_ray.metrics.prdc import prdc, prdc_by_class
from atat_ray.models import build_target
from atat_ray.models.linear_discriminant import ShrinkageLda
from atat_ray.training import Training
from atat_ray.utils.seeding import generator


@pytest.mark.parametrize("k", [1, 2, 5])
def test_hits_are_the_ranks_by_brute_force(k):
    scores = torch.rand(40, 7, generator=generator(1))
    classes = torch.randint(7, (40,), generator=generator(2))
    expected = [
        classes[i] in np.argsort(-scores[i].numpy(), kind="stable")[:k].tolist() for i in range(40)
    ]
    assert hits(scores, classes, k).tolist() == expected


def test_a_constant_evaluator_has_no_hits():
    assert not hits(torch.ones(5, 4), torch.arange(5) % 4, 1).any()


@pytest.mark.parametrize("k", [1, 5])
def test_a_row_with_a_nan_is_no_hit(k):
    """An evaluation model that diverged gives such rows."""
    scores = torch.rand(3, 4, generator=generator(1))
    scores[0] = scores[1, 2] = torch.nan
    assert hits(scores, torch.tensor([2, 1, 1]), k).tolist()[:2] == [False, False]


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


def looped_prdc(real, fake, k):
    def distance(a, b):
        return float(((a - b) ** 2).sum() ** 0.5)

    def ball(rows):
        return [sorted(distance(a, b) for b in rows)[k] for a in rows]

    of_real, of_fake = ball(real), ball(fake)
    inside = [[distance(r, f) < of_real[i] for f in fake] for i, r in enumerate(real)]
    precision = sum(any(inside[i][j] for i in range(len(real))) for j in range(len(fake)))
    recall = sum(any(distance(r, f) < of_fake[j] for j, f in enumerate(fake)) for r in real)
    return {
        "precision": precision / len(fake),
        "recall": recall / len(real),
        "density": sum(map(sum, inside)) / (k * len(fake)),
        "coverage": sum(map(any, inside)) / len(real),
    }


@pytest.mark.parametrize("k", [1, 3, 5])
def test_prdc_is_the_double_loop(k):
    real = torch.randn(14, 3, generator=generator(1))
    fake = torch.randn(11, 3, generator=generator(2)) * 0.7 + 0.5
    found = prdc(real, fake, k=k)
    assert found == pytest.approx(looped_prdc(real.numpy(), fake.numpy(), k))
    assert len(set(found.values())) > 2


def test_prdc_of_classes_is_the_mean_over_all_of_them():
    real, fake = (torch.randn(24, 3, generator=generator(s)) for s in (1, 2))
    classes = torch.arange(24) % 4
    rows = [looped_prdc(real[classes == c].numpy(), fake[classes == c].numpy(), 2)
            for c in range(4)]  # fmt: skip
    expected = {name: np.mean([row[name] for row in rows]) for name in rows[0]}
    assert prdc_by_class(real, classes, fake, classes, k=2) == pytest.approx(expected)
    with pytest.raises(ValueError, match="below the number of rows, got 6 for 6 real and 6 fake"):
        prdc_by_class(real, classes, fake, classes, k=6)


@pytest.mark.parametrize("rows", [5, 60])  # fewer and more than dimensions
def test_frechet_distance_is_that_of_scipy(rows):
    real = torch.randn(rows, 8, generator=generator(1)).double()
    fake = (
        torch.randn(rows, 8, generator=generator(2)).double()
        @ torch.randn(8, 8, generator=generator(3)).double()
    )
    x, y = real.numpy(), fake.numpy()
    a, b = np.cov(x.T), np.cov(y.T)
    if rows < 8:  # a singular product has no Schur square root worth having
        roots = np.sqrt(np.abs(np.linalg.eigvals(a @ b)))
        trace = float(roots.sum())
    else:
        trace = float(np.trace(np.real(sqrtm(a @ b))))
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * trace
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="2 rows or more and the same width"):
        frechet_distance(real, fake[:, :3])


def test_knowledge_is_extracted_from_images_that_show_the_people_and_from_no_others():
    people = torch.rand(4, 1, 32, 32, generator=generator("people"))
    labels = torch.arange(32) % 4

    def shots(seed):
        noise = torch.randn(32, 1, 32, 32, generator=generator(seed))
        return Faces(images=(people[labels] + 0.05 * noise).clamp(0, 1), labels=labels)

    still = Augmentation(rotation=0, scale=(1, 1), shift=0, flip=False, brightness=0, contrast=0)
    training = Training(
        epochs=15, batch_size=16, learning_rate=0.003, weight_decay=0.0, augmentation=still
    )

    def extracted(reconstructions):
        model = build_target("small_resnet", num_classes=4, channels=1, seed=1)
        return knowledge_extraction_score(model, reconstructions, shots(2), training, seed=1)

    wrong = Faces(images=shots(1).images, labels=(labels + 1) % 4)
    assert extracted(shots(1)) > 0.9
    assert extracted(wrong) < 0.1
