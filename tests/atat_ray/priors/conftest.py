import pytest

from atat_ray.data.readers.orl_faces import PEOPLE, load_orl_faces
from atat_ray.data.splits import split_identities
from atat_ray.priors.pca import RotatedPCAOptions
from atat_ray.priors.warped import WarpedOptions
from atat_ray.utils.seeding import generator

QUICK = {
    "rotated_pca": RotatedPCAOptions(num_components=120, num_faces=500),
    "warped": WarpedOptions(registration_steps=12, num_faces=500),
}


@pytest.fixture(scope="session")
def orl_split():
    """Split 2, on which settings are tuned."""
    images, people = load_orl_faces()
    return split_identities(images, people, PEOPLE, split=2, num_private=24, num_train=7)


@pytest.fixture(scope="session")
def public_images(orl_split):
    return orl_split.public.images


@pytest.fixture(scope="session")
def quick_options():
    return QUICK


@pytest.fixture(scope="session")
def fitted(public_images):
    """Both fitted priors, by fewer steps than the default."""
    return {
        name: options.fit(public_images, generator("test", name)) for name, options in QUICK.items()
    }
