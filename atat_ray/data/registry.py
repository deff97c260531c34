"""Registry of datasets: the names that a protocol can give, each with its reader.

To add a dataset, write a reader in ``atat_ray/data/readers`` (see :mod:`atat_ray.data.interface`)
and add one line here. ``docs/datasets.md`` describes the layout of the files.
"""

from atat_ray.data.interface import Reader
from atat_ray.utils.registry import Registry

SYNTHETIC = "made"

DATASETS: Registry[type[Reader]] = Registry(
    "dataset",
    {
        "orl_faces": "atat_ray.data.readers.orl_faces:OrlFaces",
        "facescrub": "atat_ray.data.readers.facescrub:FaceScrub",
        "celeba": "atat_ray.data.readers.celeba:CelebA",
        "stanford_dogs": "atat_ray.data.readers.stanford_dogs:StanfordDogs",
        "image_folder": "atat_ray.data.readers.image_folder:ImageFolder",
        SYNTHETIC: "atat_ray.data.readers.synthetic:Synthetic",
    },
)
