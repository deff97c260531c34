"""A defense is added by one file and one line."""

import yaml
from copies import add_line, changes, copy_packages, run_in

DEFENSE = '''"""Plain training that penalises large logits."""

from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import cross_entropy

from atat_ray.training.interface import Defense, LossTerms
from atat_ray.utils.option_fields import STRICT


@dataclass(frozen=True, kw_only=True, slots=True)
class LogitPenalty(Defense):
    """The weight of the mean squared logit."""

    weight: float

    summary: ClassVar[str] = "CE(f(x), y) + weight mean f(x)^2"
    source: ClassVar[str] = "a test"
    __pydantic_config__ = STRICT

    def loss(self, model, images, labels, draws) -> LossTerms:
        """Compute the loss of a batch."""
        logits = model(images)
        clean = cross_entropy(logits, labels)
        penalty = logits.square().mean()
        curves = {"clean_loss": clean.detach(), "penalty": penalty.detach()}
        return LossTerms(total=clean + self.weight * penalty, curves=curves)
'''
LINE = '"logit_penalty": "atat_ray.defenses.logit_penalty:LogitPenalty",'
CODE = """
from pathlib import Path

import atat_ray
from atat_ray.unit.train_stage import train_stage
from trials.cli.model import list_defenses
from trials.config.load import read_protocol

spec = read_protocol("penalty.yaml").unit_spec("split-0-01", "split-0", "treatment")
curves = train_stage(spec, Path("unit"))["curves"]
curve = curves[-1]
total = curve["clean_loss"] + 0.5 * curve["penalty"]
print(atat_ray.__file__)
print(type(spec.defense).__name__, len(curves), abs(curve["loss"] - total) < 1e-5)
print("logit_penalty" in list_defenses())
"""


def test_a_defense_is_one_new_file_and_one_line(tmp_path, content):
    copy_packages(tmp_path)
    (tmp_path / "atat_ray/defenses/logit_penalty.py").write_text(DEFENSE)
    add_line(tmp_path / "atat_ray/defenses/registry.py", '"mid":', LINE)
    new, differing = changes(tmp_path)
    assert new == ["atat_ray/defenses/logit_penalty.py"]
    assert differing == [("atat_ray/defenses/registry.py", "+", LINE)]
    content["arms"]["treatment"] = {"defense": "logit_penalty", "weight": 0.5}
    (tmp_path / "penalty.yaml").write_text(yaml.safe_dump(content))
    imported, trained, listed = run_in(tmp_path, CODE).splitlines()
    assert imported == str(tmp_path / "atat_ray" / "__init__.py")
    assert trained == "LogitPenalty 2 True"
    assert listed == "True"
