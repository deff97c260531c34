"""Datasets: list, decode and cache the images, and split people into private and public."""

from atat_ray.data.dataset import Data, folder_is_missing, load_split
from atat_ray.data.registry import DATASETS
from atat_ray.data.splits import Faces, IdentitySplit

__all__ = ["DATASETS", "Data", "Faces", "IdentitySplit", "folder_is_missing", "load_split"]
