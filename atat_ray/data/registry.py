"""The datasets that a protocol can name."""

from atat_ray.data.readers.celeba import list_celeba
from atat_ray.data.readers.facescrub import list_facescrub
from atat_ray.data.readers.image_folder import list_image_folder
from atat_ray.data.readers.stanford_dogs import list_stanford_dogs

# Datasets of image files that the user brings, each with what lists them.
LISTINGS = {
    "facescrub": list_facescrub,
    "celeba": list_celeba,
    "stanford_dogs": list_stanford_dogs,
    "image_folder": list_image_folder,
}
MADE = "made"  # of random pixels, which show that a protocol runs and nothing else
DATASETS = ("orl_faces", *LISTINGS, MADE)
