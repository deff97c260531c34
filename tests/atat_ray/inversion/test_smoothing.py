"""Smoothing of the attacked network: closed forms, memory, and independence of the division."""

from math import pi

import pytest
import torch
from generators import small_generator
from torch import nn

from atat_ray.data.augmentation import resample
from atat_ray.inversion import ATTACKS, invert
from atat_ray.inversion.cost_estimate import estimate, estimate_bytes
from atat_ray.inversion.random_crops import draw_crops
from atat_ray.inversion.smoothing import Smoothed, Smoothing, logits_of
from atat_ray.priors.stylegan2 import StyleGan2Prior
from atat_ray.priors.stylegan2.framing import Settings
from atat_ray.utils.seeding import BatchDraws, generator


def draws(seed=1):
    return BatchDraws(generator(seed))


class Recording(nn.Module):
    """A network that notes how many images it sees in each call."""

    def __init__(self, network):
        super().__init__()
        self.network, self.sizes = network, []

    def forward(self, images):
        self.sizes.append(len(images))
        return self.network(images)


@pytest.fixture
def network():
    torch.manual_seed(1)
    layers = nn.Sequential(
        nn.Flatten(), nn.Linear(3 * 16 * 16, 30), nn.Tanh(), nn.Linear(30, 5)
    ).eval()
    with torch.no_grad():
        layers[1].weight.mul_(6)
        layers[3].weight.mul_(6)
    return layers


@pytest.fixture
def images():
    return torch.rand(6, 3, 16, 16, generator=generator("images"))


class Halfspace(nn.Module):
    """Class 1 where the sum of the pixels exceeds a bound, else class 0, for certain."""

    def forward(self, images):
        margin = 1e6 * (images.sum(dim=(1, 2, 3)) - 2.0)
        return torch.stack([-margin, margin], dim=1)


def test_a_halfspace_is_smoothed_to_the_normal_distribution_function():
    """Cohen et al. (2019), Sec. 3: the share of noisy copies beyond a plane at distance d sigma."""
    images = torch.tensor([2.0, 2.1, 1.8, 2.5]).view(4, 1, 1, 1).expand(4, 1, 2, 2) / 4
    smoothed = Smoothed(Halfspace(), Smoothing(copies=4000, noise=0.1), None)
    found = smoothed(images, draws()).exp()[:, 1]
    distance = (images.sum(dim=(1, 2, 3)) - 2.0) / (0.1 * 2)  # the norm of four ones is 2
    expected = torch.special.ndtr(distance)
    assert torch.allclose(found, expected, atol=4 * 0.5 / 4000**0.5)
    assert expected[0] == 0.5


OPTIONS = Smoothing(copies=7, noise=0.2, crop_area=(0.6, 0.9), flip=True, rotation=20.0)


@pytest.mark.parametrize("batch", [None, 6, 13, 2])
def test_value_and_gradient_are_those_of_the_log_of_the_mean_probability(network, images, batch):
    seen = Recording(network)
    smoothed = Smoothed(seen, OPTIONS, batch)
    images.requires_grad_()
    found = smoothed(images, draws())
    weights = torch.randn(found.shape, generator=generator("weights"))
    (gradient,) = torch.autograd.grad((found * weights).sum(), images)

    again = draws()
    copies = [smoothed.copy(images, smoothed.draw(images, again)) for _ in range(7)]
    expected = torch.stack([network(copy).softmax(1) for copy in copies]).mean(0).log()
    (wanted,) = torch.autograd.grad((expected * weights).sum(), images)
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(gradient, wanted, atol=1e-5)
    assert wanted.abs().max() > 0.01
    assert max(seen.sizes) <= max(6, batch or 42)


def test_copies_beyond_the_batch_are_computed_one_after_another_and_not_kept(network, images):
    """Backward computes each chunk again, so that one chunk is in memory at a time."""
    seen = Recording(network)
    images.requires_grad_()
    found = Smoothed(seen, OPTIONS, 13)(images, draws())
    assert seen.sizes == [12, 12, 12, 6]
    torch.autograd.grad(found.sum(), images)
    assert sorted(seen.sizes) == sorted(2 * [12, 12, 12, 6])


class Noisy(nn.Module):
    """A network that multiplies its logits by noise of its own, as a bottleneck does."""

    def __init__(self, network):
        super().__init__()
        self.network, self.generator, self.noises = network, torch.Generator().manual_seed(3), []

    def forward(self, images):
        logits = self.network(images)
        self.noises.append(torch.rand(logits.shape, generator=self.generator))
        return logits * self.noises[-1]


def test_the_noise_of_a_network_is_the_same_when_copies_are_computed_again(network, images):
    noisy = Noisy(network)
    smoothed = Smoothed(noisy, OPTIONS, 13)
    found = smoothed(images.requires_grad_(), draws())
    state = noisy.generator.get_state()
    torch.autograd.grad(found.sum(), images)
    forward, backward = noisy.noises[:4], noisy.noises[4:]
    assert all(any(torch.equal(one, other) for other in forward) for one in backward)
    assert not torch.equal(forward[0], forward[1])
    assert torch.equal(noisy.generator.get_state(), state)
    before = len(noisy.noises)
    smoothed(images, draws())
    assert not torch.equal(noisy.noises[before], forward[0])  # another call has other noise


def test_a_copy_is_cropped_and_mirrored_and_then_rotated():
    """On an image that is linear in the coordinates, interpolation is exact inside."""
    line = (torch.arange(32) + 0.5) / 16 - 1
    images = (0.3 * line[None, :] + 0.1 * line[:, None]).expand(8, 1, 32, 32).contiguous()
    options = Smoothing(copies=1, crop_area=(0.3, 0.4), flip=True, rotation=30.0)
    smoothed = Smoothed(nn.Flatten(), options, None)
    matrices, seeds = smoothed.draw(images, draws())
    assert seeds == []
    again = draws()
    cropped = draw_crops(images, again, area=(0.3, 0.4), flip=True)
    angle = (again.uniform(-30.0, 30.0, images) * pi / 180).view(-1, 1, 1)
    turn = torch.cat(
        [
            torch.cat([angle.cos(), -angle.sin(), 0 * angle], dim=2),
            torch.cat([angle.sin(), angle.cos(), 0 * angle], dim=2),
        ],
        dim=1,
    )
    expected = resample(resample(images, cropped), turn)
    found = smoothed.copy(images, (matrices, seeds))
    inside = (slice(None), slice(None), slice(10, 22), slice(10, 22))
    assert torch.allclose(found[inside], expected[inside], atol=1e-5)
    mirrored = (cropped[:, 0, 0] < 0).float().mean()
    assert 0 < mirrored < 1


SMALL = {
    "samples": 12, "candidates": 3, "keep": 2, "views": 2, "latent_limit": None,
}  # fmt: skip
MORE = {
    "ppa": {"steps": 2},
    "if_gmi": {"steps": (1, 1), "radii": (4.0, 0.5), "feature_radii": (0.1,)},
    "ppdg": {"steps": 1, "pseudo_private": 1, "pivot_steps": 1, "tuning_steps": 1},
}


@pytest.fixture
def prior():
    return StyleGan2Prior(small_generator(), Settings())


@pytest.mark.parametrize("name", sorted(MORE))
def test_every_attack_finds_the_same_whether_it_is_divided_or_not(network, prior, name):
    def found(batch, part=None):
        attack = ATTACKS[name].from_preset("quick", **SMALL, **MORE[name], batch=batch)
        options = Smoothing(copies=3, noise=0.1, crop_area=(0.8, 1.0), rotation=5.0)
        attacked = Smoothed(network, options, attack.batch)
        return invert(attacked, prior, 5, attack, seed=4, part=part)

    whole = found(None)
    assert torch.allclose(found(4).images, whole.images, atol=1e-4)
    rows = torch.isin(whole.classes, torch.tensor([1, 3]))
    part = found(4, [1, 3])
    assert torch.allclose(part.images, whole.images[rows], atol=1e-4)
    assert torch.allclose(part.confidence, whole.confidence[rows], atol=1e-4)
    assert torch.equal(found(None).images, whole.images)
    plain = ATTACKS[name].from_preset("quick", **SMALL, **MORE[name])
    assert not torch.allclose(invert(network, prior, 5, plain, seed=4).images, whole.images)


def test_all_steps_and_selections_of_ppa_see_the_smoothed_network(network, prior):
    seen = Recording(network)
    attack = ATTACKS["ppa"].from_preset("quick", **SMALL, steps=4)
    invert(Smoothed(seen, Smoothing(copies=3, noise=0.1), None), prior, 5, attack, seed=4)
    candidates = 5 * 3
    scored, steps, views, kept = 2 * 12, 4 * candidates, 2 * candidates, 5 * 2
    assert sum(seen.sizes) == 3 * (scored + steps + views + kept)


def test_time_and_memory_are_estimated_with_the_copies_that_are_in_memory(network, prior):
    def memory(copies, batch):
        attack = ATTACKS["ppa"].from_preset("quick", **SMALL, steps=1, batch=batch)
        smoothed = Smoothed(network, Smoothing(copies=copies, noise=0.1), batch)
        assert estimate(smoothed, prior, 5, attack).seconds > 0
        return estimate_bytes(smoothed, prior, 5, attack)

    one = memory(1, None)
    assert memory(9, None) > one
    assert memory(9, 5) == memory(1, 5)
    assert memory(9, 15) == memory(1, 15) == one  # a batch of all candidates


def test_a_network_that_is_not_smoothed_uses_no_draws(network, images):
    source = draws()
    before = source.generator.get_state()
    assert torch.equal(logits_of(network, images, source), network(images))
    assert torch.equal(source.generator.get_state(), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"copies": 0, "noise": 0.1}, "copies must be 1 or more, got 0"),
        ({"copies": 2, "noise": -1.0}, "noise is a standard deviation of 0 or above"),
        ({"copies": 2, "noise": float("nan")}, "noise is a standard deviation of 0 or above"),
        ({"copies": 2, "crop_area": (0.9, 0.8)}, r"crop_area must be \(least, largest\) shares"),
        ({"copies": 2, "rotation": 181.0}, "rotation is an angle in degrees between 0 and 180"),
        ({"copies": 2}, "averages equal copies; give one of them, or drop smoothing"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Smoothing(**options)


def test_the_presets_are_valid():
    assert {name: Smoothing(**preset).copies for name, preset in Smoothing.presets.items()} == {
        "quick": 4, "paa": 50, "taa": 50,
    }  # fmt: skip
