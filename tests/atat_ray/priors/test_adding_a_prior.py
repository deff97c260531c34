"""A prior is added by one file and one line."""

import yaml
from copies import add_line, changes, copy_packages, run_in

PRIOR = '''"""Pixels: the mean public image, and an independent Gaussian at every pixel."""

from dataclasses import dataclass

from atat_ray.priors.base import Prior, PriorOptions


class PixelPrior(Prior):
    """Independent pixels."""

    name = "pixels"

    def __init__(self, *, mean):
        super().__init__()
        self.latent_dim = mean.numel()
        self.register_buffer("mean", mean)

    def render(self, latents):
        return self.mean + 0.1 * latents.unflatten(1, self.mean.shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelOptions(PriorOptions):
    """The pixel prior has no options."""

    kind = PixelPrior
    __pydantic_config__ = {"extra": "forbid"}

    def fit(self, public_images, generator):
        return PixelPrior(mean=public_images.mean(0))
'''
LINE = '"pixels": "atat_ray.priors.pixels:PixelOptions",'
CODE = """
from pathlib import Path

import atat_ray
from atat_ray.unit.block_assets import load_block_prior
from atat_ray.unit.invert_stage import invert_stage
from atat_ray.unit.train_stage import train_stage
from trials.config.load import read_protocol
from trials.execution.preflight import check_data

protocol = read_protocol("pixels.yaml")
check_data(protocol)
spec = protocol.unit_spec("split-0-01", "split-0", "control")
prior = load_block_prior(spec.block, "standard", Path("assets"))
train_stage(spec, Path("unit"))
found = invert_stage(spec, "standard", Path("assets"), Path("unit"))
print(atat_ray.__file__, type(prior).__name__, prior.latent_dim, len(found["images"]))
"""


def test_a_prior_is_one_new_file_and_one_line(tmp_path, content):
    copy_packages(tmp_path)
    (tmp_path / "atat_ray/priors/pixels.py").write_text(PRIOR)
    add_line(tmp_path / "atat_ray/priors/registry.py", '"rotated_pca":', LINE)
    new, differing = changes(tmp_path)
    assert new == ["atat_ray/priors/pixels.py"]
    assert differing == [("atat_ray/priors/registry.py", "+", LINE)]
    content["inversions"]["standard"]["prior"] = {"name": "pixels"}
    content["training"]["epochs"] = 1
    (tmp_path / "pixels.yaml").write_text(yaml.safe_dump(content))
    imported, *said = run_in(tmp_path, CODE).split()
    assert imported == str(tmp_path / "atat_ray" / "__init__.py")
    assert said == ["PixelPrior", "1024", "12"]
