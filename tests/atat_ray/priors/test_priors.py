import pytest
import torch

from atat_ray.priors import PRIORS, load_prior, prior_state


@pytest.mark.parametrize("name", sorted(PRIORS))
def test_a_saved_prior_makes_the_same_images(name):
    images = torch.rand(40, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    small = {"warped": {"num_texture": 10, "num_shape": 5}, "rotated_pca": {"num_components": 10}}
    prior = PRIORS[name](**small[name]).fit(images, torch.Generator().manual_seed(1))
    latents = prior.sample_latents(3, torch.Generator().manual_seed(2))
    loaded = load_prior(prior_state(prior))
    assert torch.equal(prior.synthesize(latents), loaded.synthesize(latents))
