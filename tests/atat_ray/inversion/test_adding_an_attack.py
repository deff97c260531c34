"""An inversion attack is added by one file and one line."""

import yaml
from copies import add_line, changes, copy_packages, run_in

ATTACK = '''"""Random search: keep the best of the initial candidates, optimise nothing."""

from dataclasses import dataclass

import torch

from atat_ray.inversion.interface import Attack, Reconstructions
from atat_ray.inversion.selection import confidence, most_confident, starting_latents


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomSearch(Attack):
    """Options of random search: those that all attacks share."""

    def steps_per_class(self):
        return 0

    def search(self, target, prior, scope):
        latents = starting_latents(target, prior, scope, self)
        with torch.no_grad():
            images = prior.synthesize(latents)
        kept, _ = most_confident(target, images, scope, self)
        classes = scope.labels(self.candidates)[kept]
        return Reconstructions(
            images=images[kept],
            latents=latents[kept],
            classes=classes,
            confidence=confidence(target, images[kept], scope, self),
        )
'''
LINE = '"random_search": "atat_ray.inversion.random_search:RandomSearch",'
CODE = """
from pathlib import Path

import atat_ray
from atat_ray.unit.invert_stage import invert_stage
from atat_ray.unit.score_stage import score_stage
from atat_ray.unit.train_stage import train_stage
from trials.config.load import read_protocol

spec = read_protocol("random.yaml").unit_spec("split-0-01", "split-0", "control")
assets, folder = Path("assets"), Path("unit")
train_stage(spec, folder)
found = invert_stage(spec, "standard", assets, folder)
scored = score_stage(spec, assets, folder)
print(atat_ray.__file__, *found["classes"].tolist(), len(scored["classes"]))
"""


def test_an_attack_is_one_new_file_and_one_line(tmp_path, content):
    copy_packages(tmp_path)
    (tmp_path / "atat_ray/inversion/random_search.py").write_text(ATTACK)
    add_line(tmp_path / "atat_ray/inversion/registry.py", '"ppa":', LINE)
    new, differing = changes(tmp_path)
    assert new == ["atat_ray/inversion/random_search.py"]
    assert differing == [("atat_ray/inversion/registry.py", "+", LINE)]
    standard = content["inversions"]["standard"]
    standard["random_search"] = {k: v for k, v in standard.pop("ppa").items() if k != "steps"}
    content["training"]["epochs"] = content["evaluation"]["training"]["epochs"] = 1
    (tmp_path / "random.yaml").write_text(yaml.safe_dump(content))
    imported, *numbers = run_in(tmp_path, CODE).split()
    assert imported == str(tmp_path / "atat_ray" / "__init__.py")
    assert numbers == [str(c) for c in range(6) for _ in range(2)] + ["6"]
