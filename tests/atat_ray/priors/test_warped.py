import time

import pytest
import torch

from atat_ray.priors import PRIORS
from atat_ray.priors.flow_fields import identity_grid
from atat_ray.priors.warped import WarpedPrior, align
from atat_ray.utils.seeding import generator


def detail(images):
    """Mean squared Laplacian, a measure of sharpness."""
    middle = images[..., 1:-1, 1:-1]
    beside = images[..., 1:-1, :-2] + images[..., 1:-1, 2:]
    above = images[..., :-2, 1:-1] + images[..., 2:, 1:-1]
    return float((4 * middle - beside - above).square().mean())


def sharpness_of_samples(prior, public_images):
    images = prior.synthesize(prior.sample_latents(200, generator("sharpness")))
    return detail(images) / detail(public_images)


def small_prior(num_texture=4, num_shape=3):
    draws = generator("small prior")
    return WarpedPrior(
        texture_mean=0.5 + 0.05 * torch.randn(1, 12, 12, generator=draws),
        texture_basis=0.02 * torch.randn(num_texture, 1, 12, 12, generator=draws),
        flow_mean=0.02 * torch.randn(2, 5, 5, generator=draws),
        flow_basis=0.02 * torch.randn(num_shape, 2, 5, 5, generator=draws),
    )


def test_warped_samples_are_about_as_sharp_as_photographs(fitted, public_images):
    assert 0.7 < sharpness_of_samples(fitted["warped"], public_images) < 1.2
    assert sharpness_of_samples(fitted["rotated_pca"], public_images) < 0.35


def test_the_gradient_is_that_of_finite_differences():
    prior = small_prior().double()
    latents = torch.randn(2, prior.latent_dim, generator=generator(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(prior.synthesize, latents.requires_grad_())


def test_the_first_coordinates_change_only_the_texture():
    prior = small_prior()
    still = WarpedPrior(
        texture_mean=prior.texture_mean,
        texture_basis=prior.texture_basis,
        flow_mean=torch.zeros(2, 5, 5),
        flow_basis=torch.zeros(3, 2, 5, 5),
    )
    latents = torch.randn(6, 7, generator=generator(1))
    linear = prior.texture_mean + torch.einsum("nk,kchw->nchw", latents[:, :4], prior.texture_basis)
    torch.testing.assert_close(still.synthesize(latents), linear.clamp(0, 1))


def test_alignment_drops_the_image_whose_flow_folds(public_images):
    images = public_images[:10]
    flow = torch.zeros(10, 64, 64, 2)
    flow[3] = -1.5 * identity_grid(64, 64, images.device)  # turned inside out
    aligned, inverse = align(images, flow, keep_share=0.9)
    others = torch.cat([images[:3], images[4:]])
    torch.testing.assert_close(aligned, others, atol=1e-4, rtol=0)
    assert inverse.abs().max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seconds"), [("warped", 12.0), ("rotated_pca", 8.0)])
def test_the_default_fit_is_quick_and_so_is_the_prior(public_images, name, seconds):
    start = time.process_time()
    prior = PRIORS[name]().fit(public_images, generator("default"))
    assert time.process_time() - start < seconds
    latents = prior.sample_latents(192, generator(1)).requires_grad_()
    prior.synthesize(latents).sum().backward()
    start = time.process_time()
    prior.synthesize(latents).sum().backward()
    assert time.process_time() - start < 0.1
