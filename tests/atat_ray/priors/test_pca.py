import pytest
import torch

from atat_ray.priors.pca import fit_pca, jitter_poses, random_rotation
from atat_ray.utils.seeding import generator


def samples(num, dim):
    """Rotated samples with decreasing standard deviations of their coordinates."""
    spread = torch.linspace(3, 0.2, dim)
    turn = torch.linalg.qr(torch.randn(dim, dim, generator=generator("turn"))).Q
    return torch.randn(num, dim, generator=generator("samples")) * spread @ turn + 1


def latents_of(data, components):
    """The latents whose images are the projections of the data onto the components."""
    return (data - components.mean) @ components.axes.T / components.scales


@pytest.mark.parametrize(("num", "dim"), [(60, 20), (20, 60), (30, 30)])
def test_components_are_those_of_the_singular_value_decomposition(num, dim):
    data = samples(num, dim)
    components = fit_pca(data, 8)
    centered = data.double() - data.double().mean(dim=0)
    _, singular, axes = torch.linalg.svd(centered, full_matrices=False)
    torch.testing.assert_close(components.scales, (singular[:8] / (num - 1) ** 0.5).float())
    cosine = (components.axes.double() * axes[:8]).sum(dim=1).abs()
    torch.testing.assert_close(cosine, torch.ones(8, dtype=torch.float64))


@pytest.mark.parametrize(("num", "dim"), [(60, 20), (20, 60)])
def test_training_samples_have_unit_covariance_in_latent_coordinates(num, dim):
    data = samples(num, dim)
    latents = latents_of(data, fit_pca(data, 8))
    torch.testing.assert_close(latents.mean(dim=0), torch.zeros(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(latents.T.cov(), torch.eye(8), atol=1e-5, rtol=0)


def test_all_components_together_reconstruct_the_samples():
    data = samples(60, 20)
    components = fit_pca(data, 20)
    rebuilt = components.mean + latents_of(data, components) @ components.basis
    torch.testing.assert_close(rebuilt, data, atol=1e-4, rtol=1e-4)


def test_the_sign_of_a_component_is_fixed():
    data = samples(60, 20)
    axes = fit_pca(data, 8).axes
    assert (axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)) > 0).all()
    torch.testing.assert_close(fit_pca(-data, 8).axes, axes)


def test_more_components_than_samples_span_are_refused():
    with pytest.raises(ValueError, match="span 1..9 components, got num_components=10"):
        fit_pca(samples(10, 20), 10)


def test_rotation_is_orthogonal_and_drawn_from_the_generator():
    rotation = random_rotation(50, generator(0))
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(50, dtype=torch.float64))
    assert torch.equal(rotation, random_rotation(50, generator(0)))
    assert not torch.equal(rotation, random_rotation(50, generator(1)))


def test_rotation_is_uniform():
    """By Haar measure every entry has mean 0 and variance 1 / dim; plain QR fails this."""
    draws = generator(0)
    entries = torch.stack([random_rotation(3, draws) for _ in range(3000)])
    assert entries.mean(dim=0).abs().max() < 0.05
    assert (entries.square().mean(dim=0) - 1 / 3).abs().max() < 0.03


def test_rotated_coordinates_are_entangled_but_make_the_same_faces(fitted):
    """Rotation keeps the covariance of images and equalises the effects of the latents."""
    basis = fitted["rotated_pca"].basis.flatten(1).double()
    singular = torch.linalg.svdvals(basis)
    length = basis.norm(dim=1)
    assert singular.max() / singular.min() > 10
    assert length.max() / length.min() < 4


def test_jittered_poses_keep_the_mean_image(public_images):
    images = jitter_poses(public_images, 300, generator(0))
    assert images.shape == (300, 1, 64, 64)
    assert abs(float(images.mean() - public_images.mean())) < 0.02
