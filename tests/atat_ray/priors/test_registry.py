import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from atat_ray.data.readers.orl_faces import PEOPLE, load_orl_faces
from atat_ray.data.splits import split_identities
from atat_ray.priors import PRIORS, load_prior, prior_state
from atat_ray.priors.pca import RotatedPCAOptions
from atat_ray.priors.warped import WarpedOptions
from atat_ray.utils.seeding import generator

NAMES = ["rotated_pca", "warped"]  # those that are fitted


def same_state(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", NAMES)
def test_latents_are_standard_normal_and_a_function_of_the_generator(fitted, name):
    prior = fitted[name]
    latents = prior.sample_latents(500, generator(1))
    assert latents.shape == (500, prior.latent_dim)
    assert abs(float(latents.mean())) < 0.02
    assert abs(float(latents.std()) - 1) < 0.02
    assert torch.equal(latents, prior.sample_latents(500, generator(1)))


@pytest.mark.parametrize("name", NAMES)
def test_images_have_the_shape_and_the_range_of_the_public_ones(fitted, public_images, name):
    prior = fitted[name]
    images = prior.synthesize(3 * prior.sample_latents(50, generator(1)))
    assert images.shape == (50, *public_images.shape[1:])
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_samples_have_the_light_and_the_variety_of_the_public_images(fitted, public_images, name):
    prior = fitted[name]
    images = prior.synthesize(prior.sample_latents(200, generator(1)))
    assert abs(float(images.mean() - public_images.mean())) < 0.05
    ratio = float(images.std(dim=0).mean() / public_images.std(dim=0).mean())
    assert 0.8 < ratio < 1.25


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_every_coordinate_of_every_latent(fitted, name):
    prior = fitted[name]
    latents = prior.sample_latents(20, generator(1)).requires_grad_()
    images = prior.synthesize(latents)
    weights = torch.randn(images.shape, generator=generator(2))
    (gradient,) = torch.autograd.grad((images * weights).sum(), latents)
    assert gradient.isfinite().all()
    assert (gradient != 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_fit_is_a_function_of_the_images_and_the_seed(fitted, public_images, quick_options, name):
    again = quick_options[name].fit(public_images, generator("test", name))
    assert same_state(fitted[name], again)
    other = quick_options[name].fit(public_images, generator("another seed"))
    assert not same_state(fitted[name], other)


@pytest.mark.parametrize("name", NAMES)
def test_fit_changes_neither_the_global_generator_nor_its_images(name):
    images = torch.rand(30, 1, 16, 16, generator=generator(0))
    copy, state = images.clone(), torch.get_rng_state()
    small = {
        "rotated_pca": RotatedPCAOptions(num_components=5, num_faces=20),
        "warped": WarpedOptions(texture_components=5, shape_components=5, num_faces=20),
    }
    small[name].fit(images, generator(1))
    assert torch.equal(images, copy)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", NAMES)
def test_private_images_do_not_change_a_prior(fitted, orl_split, quick_options, name):
    """Replace every private image by noise: the prior stays the same, bit for bit."""
    images, people = load_orl_faces()
    private = torch.isin(people, orl_split.people)
    images[private] = torch.rand(images[private].shape, generator=generator("noise"))
    altered = split_identities(images, people, PEOPLE, split=2, num_private=24, num_train=7)
    assert not torch.equal(altered.train.images, orl_split.train.images)
    prior = quick_options[name].fit(altered.public.images, generator("test", name))
    assert same_state(fitted[name], prior)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_prior_makes_the_same_images(fitted, tmp_path, name):
    prior = fitted[name]
    torch.save(prior_state(prior), tmp_path / "prior.pt")
    loaded = load_prior(torch.load(tmp_path / "prior.pt", weights_only=True))
    latents = prior.sample_latents(5, generator(1))
    assert type(loaded) is type(prior)
    assert loaded.latent_dim == prior.latent_dim
    assert torch.equal(loaded.synthesize(latents), prior.synthesize(latents))


def test_the_state_of_an_unknown_prior_is_refused():
    with pytest.raises(ValueError, match=r"unknown prior 'stylegan9' \(did you mean 'stylegan2'"):
        load_prior({"prior": "stylegan9", "tensors": {}})


def test_a_prior_has_the_name_of_its_options_in_the_registry():
    assert {name: options.kind.name for name, options in PRIORS.items()} == {n: n for n in PRIORS}


@pytest.mark.parametrize("name", NAMES)
def test_priors_take_colour_and_oblong_images(name):
    images = torch.rand(30, 3, 20, 16, generator=generator(0))
    small = {
        "rotated_pca": RotatedPCAOptions(num_components=5, num_faces=20),
        "warped": WarpedOptions(texture_components=5, shape_components=5, num_faces=20),
    }
    prior = small[name].fit(images, generator(1))
    assert prior.synthesize(prior.sample_latents(4, generator(2))).shape == (4, 3, 20, 16)


@pytest.mark.parametrize(
    ("options", "values", "message"),
    [
        (RotatedPCAOptions, {"num_components": 0}, "got num_components=0, num_faces=2000"),
        (RotatedPCAOptions, {"num_faces": 300}, "got num_components=300, num_faces=300"),
        (WarpedOptions, {"num_faces": 100}, "got texture_components=100, num_faces=100"),
        (WarpedOptions, {"shape_components": 0}, "shape_components must be at least 1, got 0"),
        (WarpedOptions, {"registration_steps": 0}, "registration_steps must be at least 1, got 0"),
        (WarpedOptions, {"keep_share": 1.5}, r"keep_share must be in \(0, 1\], got 1.5"),
        (WarpedOptions, {"sharpening": -1.0}, "sharpening must be at least 0, got -1.0"),
    ],
)
def test_bad_options_are_refused(options, values, message):
    with pytest.raises(ValueError, match=message):
        options(**values)
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(options).validate_python(values)


@pytest.mark.parametrize("name", NAMES)
def test_a_misspelt_option_in_a_protocol_is_an_error_that_names_it(name):
    with pytest.raises(ValidationError, match="num_facez"):
        TypeAdapter(PRIORS[name]).validate_python({"num_facez": 10})
    assert TypeAdapter(PRIORS[name]).validate_python({}) == PRIORS[name]()
