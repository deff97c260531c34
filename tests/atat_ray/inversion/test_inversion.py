from math import acosh

import pytest
import torch
from torch import nn

from atat_ray.inversion import invert
from atat_ray.inversion.losses import poincare_loss
from atat_ray.inversion.ppa import Ppa
from atat_ray.inversion.random_crops import random_resized_crop
from atat_ray.inversion.selection import initial_candidates, robust_confidence
from atat_ray.priors.pca import RotatedPCAPrior
from atat_ray.utils.seeding import BatchDraws, generator

PPA = {
    "samples": 20, "candidates": 4, "steps": 8, "learning_rate": 0.1, "betas": (0.1, 0.1),
    "crop_area": (0.9, 1.0), "latent_limit": 2.0, "keep": 2, "views": 3, "view_area": (0.5, 0.9),
}  # fmt: skip


@pytest.fixture
def prior():
    basis = torch.randn(5, 1, 16, 16, generator=generator("basis")) * 0.1
    return RotatedPCAPrior(mean=torch.full((1, 16, 16), 0.5), basis=basis)


@pytest.fixture
def target():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 3)).eval()


def test_poincare_loss_is_the_formula_written_out():
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 3.0]])
    for row, target in enumerate([0, 2]):
        u = [float(x) / float(logits[row].abs().sum()) for x in logits[row]]
        v = [1 - 1e-4 if c == target else 0.0 for c in range(3)]
        gap = sum((a - b) ** 2 for a, b in zip(u, v, strict=True))
        inside = (1 - sum(a * a for a in u)) * (1 - sum(b * b for b in v))
        found = poincare_loss(logits[row : row + 1], torch.tensor([target]))
        assert float(found) == pytest.approx(acosh(1 + 2 * gap / inside), rel=1e-4)


def test_poincare_loss_is_least_where_all_the_mass_is_on_the_target():
    rows = torch.tensor([[9.0, 1.0, 1.0], [3.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 9.0, 1.0]])
    loss = poincare_loss(rows, torch.zeros(4, dtype=torch.long))
    assert loss.argsort().tolist() == [0, 1, 2, 3]
    at_the_target = poincare_loss(torch.tensor([[5.0, 0.0, 0.0]]), torch.tensor([0]))
    assert at_the_target.isfinite().all()


def test_initial_candidates_are_the_best_by_brute_force(prior, target):
    latents = prior.sample_latents(20, generator(1))
    draws = BatchDraws(generator(3))
    chosen = latents[initial_candidates(target, prior.synthesize, latents, 4, draws)]
    assert chosen.shape == (3, 4, 5)
    for c in range(3):
        scores = []
        for latent in latents:
            image = prior.synthesize(latent[None])
            both = target(image).softmax(1) + target(image.flip(3)).softmax(1)
            scores.append(float(both[0, c].detach()))
        best = torch.tensor(scores).argsort(descending=True)[:4]
        assert torch.equal(chosen[c], latents[best])


def test_robust_confidence_is_the_mean_over_views(prior, target):
    images = prior.synthesize(prior.sample_latents(6, generator(1)))
    classes = torch.arange(6) % 3
    found = robust_confidence(
        target, images, classes, BatchDraws(generator(2)),
        views=4, area=(0.5, 0.9), ratio=(0.7, 1.3),
    )  # fmt: skip
    again, total = BatchDraws(generator(2)), torch.zeros(6)
    for _ in range(4):
        crops = random_resized_crop(images, again, area=(0.5, 0.9), ratio=(0.7, 1.3), flip=True)
        total += target(crops).softmax(1)[range(6), classes].detach() / 4
    assert torch.allclose(found, total)


def test_a_crop_of_everything_changes_nothing_and_a_small_one_is_a_part():
    images = torch.rand(4, 1, 16, 16, generator=generator(1))
    whole = random_resized_crop(images, BatchDraws(generator(2)), area=(1.0, 1.0))
    assert torch.allclose(whole, images, atol=1e-5)
    ramp = torch.linspace(0, 1, 16).expand(4, 1, 16, 16)
    part = random_resized_crop(ramp, BatchDraws(generator(2)), area=(0.25, 0.25))
    width = part.amax(dim=(1, 2, 3)) - part.amin(dim=(1, 2, 3))
    assert ((width > 0.4) & (width < 0.6)).all()


def test_inversion_makes_the_target_more_confident_than_at_its_starting_points(prior, target):
    def confidence(steps):
        found = invert(target, prior, 3, Ppa(**{**PPA, "steps": steps}), seed=4)
        return target(found.images).softmax(1).gather(1, found.classes[:, None]).mean()

    assert confidence(8) > confidence(0)


def test_inversion_returns_classes_in_order_within_limits_as_a_function_of_the_seed(prior, target):
    found, again = (invert(target, prior, 3, Ppa(**PPA), seed=4) for _ in range(2))
    other = invert(target, prior, 3, Ppa(**PPA), seed=5)
    assert found.classes.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.latents.abs().max() <= 2.0
    assert torch.allclose(found.images, prior.synthesize(found.latents), atol=1e-6)
    assert torch.equal(found.images, again.images)
    assert not torch.equal(found.images, other.images)


def test_the_kept_reconstructions_are_the_most_confident_of_all_candidates(prior, target):
    every = invert(target, prior, 3, Ppa(**{**PPA, "keep": 4}), seed=4)
    best = invert(target, prior, 3, Ppa(**{**PPA, "keep": 1}), seed=4)
    assert torch.equal(best.latents, every.latents[::4])


def test_a_part_of_the_classes_uses_the_draws_of_the_whole_attack(prior, target):
    whole = invert(target, prior, 3, Ppa(**PPA), seed=4)
    for part in ([0], [1, 2], [2]):
        found = invert(target, prior, 3, Ppa(**PPA), seed=4, part=part)
        rows = slice(2 * part[0], 2 * part[-1] + 2)
        assert torch.equal(found.classes, whole.classes[rows])
        for name in ("images", "latents", "confidence"):
            assert torch.allclose(getattr(found, name), getattr(whole, name)[rows], atol=1e-5), name


def test_classes_are_divided_into_parts_of_the_given_size():
    assert Ppa(**PPA).parts(5) == [range(5)]
    assert Ppa(**PPA, batch_classes=2).parts(5) == [range(2), range(2, 4), range(4, 5)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": 5}, "keep <= candidates <= samples must hold, got keep 5, candidates 4"),
        ({"samples": 3}, "samples 3"),
        ({"steps": -1}, "steps must be 0 or more"),
        ({"batch_classes": 0}, "batch_classes must be 1 or more, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0"),
        ({"betas": (8.0, -1.0)}, r"betas must be at least 0 and below 1, got \[8.0, -1.0\]"),
        ({"crop_area": (0.9, 1.2)}, r"crop_area .* in \(0, 1\], got 0.9, 1.2"),
        ({"view_area": (0.9, 0.5)}, "view_area"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Ppa(**{**PPA, **options})
