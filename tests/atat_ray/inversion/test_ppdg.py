"""PPDG on a generator whose images are cropped, and whose latents are normalised."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from generators import small_generator
from torch import nn

from atat_ray.inversion import invert
from atat_ray.inversion.ppdg import Ppdg
from atat_ray.inversion.random_crops import random_resized_crop
from atat_ray.inversion.selection import most_confident
from atat_ray.priors.stylegan2 import StyleGan2Prior
from atat_ray.priors.stylegan2.framing import Settings
from atat_ray.utils.seeding import BatchDraws, generator

SMALL = {
    "samples": 12, "candidates": 3, "keep": 3, "steps": 1, "views": 2, "pseudo_private": 2,
    "pivot_steps": 1, "tuning_steps": 1,
}  # fmt: skip


@pytest.fixture
def target():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 3)).eval()


def prior(**framing):
    return StyleGan2Prior(small_generator(), Settings(psi=0.7, **framing))


@pytest.fixture
def framed():
    return prior(crop=8, size=8)


def watch_tuning(monkeypatch):
    """Note what the prior is tuned to, and where the pivots begin."""
    seen, true_tune, true_pivots = [], Ppdg.tune, Ppdg.find_pivots

    def tune(self, tuned, images, samples):
        seen.append({"prior": deepcopy(tuned), "images": images})
        true_tune(self, tuned, images, samples)

    def find_pivots(self, synthesize, pivots, images):
        seen[-1]["center"] = pivots[0].clone()
        with torch.no_grad():
            seen[-1]["made"] = synthesize(pivots)
        true_pivots(self, synthesize, pivots, images)

    monkeypatch.setattr(Ppdg, "tune", tune)
    monkeypatch.setattr(Ppdg, "find_pivots", find_pivots)
    return seen


@pytest.mark.parametrize("space", ["latents", "styles"])
@pytest.mark.parametrize("framing", [{"crop": 8, "size": 8}, {"crop": 8, "size": 8, "gray": True}])
def test_the_prior_is_tuned_to_whole_images(target, monkeypatch, space, framing):
    seen = watch_tuning(monkeypatch)
    attack = Ppdg.from_preset("paper", **SMALL, space=space, relative=True)
    made = prior(**framing)
    model = target if not framing.get("gray") else nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    first = invert(model, made, 3, replace(attack, rounds=1), seed=4)
    invert(model, made, 3, replace(attack, rounds=3), seed=4, part=[0, 1])
    assert len(seen) == 2 * 2
    for number in range(2):
        tuning = seen[2 * number]
        best = first.latents[3 * number : 3 * number + 2]
        state = made.begin(best) if space == "latents" else (best,)
        assert torch.allclose(tuning["images"], prior().finish(state, 0), atol=1e-5)
        assert tuning["images"].shape == tuning["made"].shape == (2, 3, 16, 16)
        # In the third round they are images of the prior that was tuned before the second.
        assert not torch.equal(seen[2 * number + 1]["images"], tuning["images"])


def test_what_the_crop_cuts_off_takes_part_in_the_tuning(framed):
    """The reference compares whole images; with a crop of half the side 3/4 of them are cut off."""
    attack = Ppdg.from_preset("paper", **SMALL)
    samples = framed.sample_latents(20, generator(2))
    images = attack.pseudo_images(framed, framed.begin(samples[:2]))
    edited = images.clone()
    edited[..., :4] += 0.5
    tuned = [deepcopy(framed) for _ in range(2)]
    for one, goal in zip(tuned, (images, edited), strict=True):
        attack.tune(one, goal, samples)
    assert any(
        not torch.equal(a, b) for a, b in zip(tuned[0].weights(), tuned[1].weights(), strict=True)
    )


@pytest.mark.parametrize("space", ["latents", "styles"])
@pytest.mark.parametrize("cutoff", [None, 2])
def test_the_centre_is_the_mean_style_whatever_is_searched(target, monkeypatch, space, cutoff):
    """The mean z is near 0, and the mapping normalises it to the style of some random face."""
    seen = watch_tuning(monkeypatch)
    made = prior(crop=8, size=8, cutoff=cutoff)
    attack = Ppdg.from_preset("paper", **SMALL, space=space)
    invert(target, made, 3, attack, seed=4, part=[1])
    (tuning,) = seen
    styles = made.begin(made.sample_latents(600, generator(4, "center")))[0]
    mean = styles.mean(0)
    assert torch.allclose(tuning["center"], mean.expand(2, *mean.shape), atol=1e-5)


class Watched(nn.Module):
    """A target model that notes the images it sees."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.seen = inner, []

    def forward(self, images):
        self.seen.append(images)
        return self.inner(images)


def test_the_papers_preset_selects_by_the_image_and_its_mirror_image_only(target, scope_of):
    attack = Ppdg.from_preset("paper", **{**SMALL, "views": 40})
    images = torch.rand(9, 3, 8, 8, generator=generator("images"))
    watched = Watched(target)
    kept, score = most_confident(watched, images, scope_of(3), attack)
    mirrored = torch.zeros(9, 2)
    for views in watched.seen:
        for row, view in enumerate(views):
            for side, other in enumerate([images[row], images[row].flip(2)]):
                mirrored[row, side] += torch.allclose(view, other, atol=1e-5)
    assert (mirrored.sum(1) == 40).all()
    assert (mirrored > 5).all()
    both = torch.stack([target(images), target(images.flip(3))]).softmax(2)
    own = both[:, torch.arange(9), torch.arange(9) // 3]
    expected = (own.T * mirrored).sum(1) / 40
    assert torch.allclose(score, expected[kept], atol=1e-5)


def test_the_ratio_of_the_views_is_an_option():
    image = torch.rand(1, 1, 16, 16, generator=generator("image")).expand(30, -1, -1, -1)

    def changed(ratio):
        views = random_resized_crop(image, BatchDraws(generator(1)), area=(1.0, 1.0), ratio=ratio)
        return float((views - image).abs().max())

    assert changed((1.0, 1.0)) < 1e-5 < 0.1 < changed((0.8, 1.2))
    with pytest.raises(ValueError, match=r"view_ratio must be \(least, largest\) ratios above 0"):
        Ppdg.from_preset("quick", view_ratio=(1.2, 0.8))
