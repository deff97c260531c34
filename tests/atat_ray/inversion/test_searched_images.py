"""What the target model sees while images are searched, selected and reported."""

from dataclasses import replace

import pytest
import torch
from generators import small_generator
from torch import nn

from atat_ray.inversion import ATTACKS, invert
from atat_ray.inversion.ppa import Ppa
from atat_ray.priors.pca import RotatedPCAPrior
from atat_ray.priors.stylegan2 import StyleGan2Prior
from atat_ray.priors.stylegan2.framing import Settings
from atat_ray.priors.warped import WarpedPrior
from atat_ray.utils.seeding import generator
from trials.config.load import read_protocol, read_sweep

SMALL = {
    "samples": 6, "candidates": 2, "keep": 2, "learning_rate": 0.1, "latent_limit": None,
    "views": 2, "space": "latents",
}  # fmt: skip


class Watched(nn.Module):
    """A linear target model of 3 classes that notes every image it sees."""

    def __init__(self, pixels):
        super().__init__()
        self.seen = []
        self.layer = nn.Linear(pixels, 3)
        with torch.no_grad():
            self.layer.weight.copy_(torch.randn(3, pixels, generator=generator("target")))

    def forward(self, images):
        self.seen.append((images.detach(), images.requires_grad))
        return self.layer(images.flatten(1))


def bright(name):
    """A prior all of whose pixels are above 1."""
    draws = generator("bright")
    if name == "rotated_pca":
        basis = 0.01 * torch.randn(5, 1, 16, 16, generator=draws)
        return RotatedPCAPrior(mean=torch.full((1, 16, 16), 2.0), basis=basis)
    if name == "warped":
        return WarpedPrior(
            texture_mean=torch.full((1, 16, 16), 2.0),
            texture_basis=0.01 * torch.randn(5, 1, 16, 16, generator=draws),
            flow_mean=torch.zeros(2, 5, 5),
            flow_basis=0.05 * torch.randn(3, 2, 5, 5, generator=draws),
        )
    made = small_generator()
    for side in (4, 8, 16):
        made.synthesis.get_submodule(f"b{side}.torgb").bias.add_(30.0)
    return StyleGan2Prior(made, Settings(crop=12, size=8))


PRIORS = {
    "ppa": ["rotated_pca", "warped", "stylegan2"],
    "if_gmi": ["warped", "stylegan2"],
    "ppdg": ["warped", "stylegan2"],
}
PAIRS = [(attack, prior) for attack, names in PRIORS.items() for prior in names]


def small_attack(name, **options):
    kept = {key: value for key, value in SMALL.items() if name != "if_gmi" or key != "space"}
    steps = {"steps": 3} if name != "if_gmi" else {"steps": (3, 2), "radii": None}
    steps |= {"feature_radii": None} if name == "if_gmi" else {}
    more = {"pseudo_private": 2, "pivot_steps": 2, "tuning_steps": 2} if name == "ppdg" else {}
    return ATTACKS[name].from_preset("quick", **kept, **steps, **more, **options)


@pytest.mark.parametrize(("name", "prior_name"), PAIRS)
def test_pixels_beyond_the_range_keep_their_gradient_unless_they_are_clamped(name, prior_name):
    prior = bright(prior_name)
    target = Watched(prior.synthesize(prior.sample_latents(1, generator(1)))[0].numel())
    moved = {}
    for clamp in (False, True):
        attack = small_attack(name, clamp=clamp)
        still = replace(attack, steps=(0, 0) if name == "if_gmi" else 0)
        found, start = (invert(target, prior, 3, a, seed=1) for a in (attack, still))
        moved[clamp] = not torch.equal(found.latents.sort(0).values, start.latents.sort(0).values)
        assert found.images.max() <= 1
    assert moved == {False: True, True: False}


@pytest.mark.parametrize(("name", "prior_name"), PAIRS)
def test_samples_are_scored_clamped_and_steps_see_the_images_as_the_option_says(name, prior_name):
    prior = bright(prior_name)
    pixels = prior.synthesize(prior.sample_latents(1, generator(1)))[0].numel()
    for clamp in (False, True):
        target = Watched(pixels)
        invert(target, prior, 3, small_attack(name, clamp=clamp), seed=1, part=[0])
        assert target.seen[0][0].max() <= 1
        in_steps = [images for images, in_step in target.seen if in_step]
        assert len(in_steps) == {"ppa": 3, "if_gmi": 5, "ppdg": 6}[name]
        assert all((images.max() > 1.5) != clamp for images in in_steps)
        # The confidence of the reported images is computed last. The first search has three steps.
        assert target.seen[-1][0].max() <= 1
        selection = next(i for i, (_, in_step) in enumerate(target.seen) if in_step) + 3
        assert (target.seen[selection][0].max() > 1.5) != clamp


def test_images_are_clamped_while_searched_only_where_it_is_asked_for():
    shortest = {key: value for key, value in SMALL.items() if key != "space"}
    assert not Ppa(
        **shortest, steps=1, betas=(0.1, 0.1), crop_area=(0.9, 1.0), view_area=(0.5, 0.9)
    ).clamp
    for name in ATTACKS:
        assert not ATTACKS[name].from_preset("paper").clamp
        assert ATTACKS[name].from_preset("quick").clamp
    orl = [read_protocol(n) for n in ("orl-rct", "orl-aa", "orl-defenses")]
    for settings in [*orl, read_sweep("orl-sweep")]:
        assert all(inversion.attack.clamp for inversion in settings.inversions.values())
    for name in ("facescrub-rct", "facescrub-benchmark", "celeba-rct"):
        assert not read_protocol(name).inversions["standard"].attack.clamp
