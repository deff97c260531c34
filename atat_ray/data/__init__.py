"""Datasets: select one, decode and cache its images, and split its people.

:class:`Data` selects a dataset of :data:`DATASETS` and says how its people are divided.
:func:`load_split` returns an :class:`IdentitySplit`: training and test images of private people,
whose model is attacked, and images of public people, which a prior may see. The ORL faces need no
files; ``docs/datasets.md`` describes the layout of the others.

>>> split = load_split(Data(name="orl_faces", num_private=4, num_train=7, size=32), split=0)
>>> split.train.images.shape, split.num_classes, len(split.test), len(split.public)
(torch.Size([28, 1, 32, 32]), 4, 12, 360)
"""

from atat_ray.data.dataset import Data, data_manifest, folder_is_missing, load_split
from atat_ray.data.registry import DATASETS
from atat_ray.data.splits import Faces, IdentitySplit

__all__ = [
    "DATASETS",
    "Data",
    "Faces",
    "IdentitySplit",
    "data_manifest",
    "folder_is_missing",
    "load_split",
]
