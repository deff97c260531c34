"""A dataset is added by one file and one line."""

import yaml
from copies import add_line, changes, copy_packages, run_in

READER = '''"""Gray images whose shade is the class."""

import torch

from atat_ray.data.dataset import Data
from atat_ray.data.interface import Reader


class Shades(Reader):
    """Ten classes of six images each."""

    all_private = False

    def manifest(self, data: Data):
        return {}

    def load(self, data: Data):
        labels = torch.arange(10).repeat_interleave(6)
        shades = (labels / 10).view(-1, 1, 1, 1)
        return shades.expand(-1, 1, data.size, data.size).contiguous(), labels, list("abcdefghij")
'''
LINE = '"shades": "atat_ray.data.readers.shades:Shades",'
CODE = """
import torch

import atat_ray
from atat_ray.data import load_split
from trials.config.load import read_protocol

spec = read_protocol("shades.yaml").unit_spec("split-0-01", "split-0", "control")
split = load_split(spec.block.data, spec.block.split)
right = (split.train.images[:, 0, 0, 0] * 10).round() == split.people[split.train.labels]
right &= torch.tensor(["abcdefghij".index(n) for n in split.names]).equal(split.people)
print(atat_ray.__file__, len(split.train), len(split.test), len(split.public), bool(right.all()))
"""


def test_a_dataset_is_one_new_file_and_one_line(tmp_path, content):
    copy_packages(tmp_path)
    (tmp_path / "atat_ray/data/readers/shades.py").write_text(READER)
    add_line(tmp_path / "atat_ray/data/registry.py", '"image_folder":', LINE)
    new, differing = changes(tmp_path)
    assert new == ["atat_ray/data/readers/shades.py"]
    assert differing == [("atat_ray/data/registry.py", "+", LINE)]
    content["data"] = {"name": "shades", "num_private": 6, "num_train": 4, "size": 32}
    (tmp_path / "shades.yaml").write_text(yaml.safe_dump(content))
    imported, *counts = run_in(tmp_path, CODE).split()
    assert imported == str(tmp_path / "atat_ray" / "__init__.py")
    assert counts == ["24", "12", "24", "True"]
