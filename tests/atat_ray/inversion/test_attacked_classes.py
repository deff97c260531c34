"""An attack on some of the classes."""

from dataclasses import replace

import pytest
import torch
from generators import small_generator
from torch import nn

from atat_ray.data import load_split
from atat_ray.inversion import ATTACKS, invert
from atat_ray.inversion.cost_estimate import estimate, estimate_bytes
from atat_ray.priors.stylegan2 import StyleGan2Prior
from atat_ray.priors.stylegan2.framing import Settings
from atat_ray.unit import run_unit
from atat_ray.unit.measure_stage import measure_stage, of_classes
from trials.config.load import check_protocol

SMALL = {
    "samples": 12, "candidates": 3, "keep": 2, "views": 2, "latent_limit": None,
}  # fmt: skip
MORE = {
    "ppa": {"steps": 2},
    "if_gmi": {"steps": (1, 1), "radii": (4.0, 0.5), "feature_radii": (0.1,)},
    "ppdg": {"steps": 1, "pseudo_private": 1, "pivot_steps": 1, "tuning_steps": 1},
}


@pytest.fixture
def target():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5)).eval()


@pytest.fixture
def prior():
    return StyleGan2Prior(small_generator(), Settings())


def small_attack(name, **options):
    return ATTACKS[name].from_preset("quick", **SMALL, **MORE[name], **options)


@pytest.mark.parametrize("name", sorted(MORE))
def test_some_classes_get_what_they_get_when_all_are_attacked(target, prior, name):
    whole = invert(target, prior, 5, small_attack(name), seed=4)
    attack = small_attack(name, attacked_classes=3)
    found = invert(target, prior, 5, attack, seed=4)
    chosen = found.classes[::2].tolist()
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 3
    rows = torch.isin(whole.classes, found.classes)
    assert torch.equal(found.classes, whole.classes[rows])
    assert torch.allclose(found.images, whole.images[rows], atol=1e-4)
    parts = replace(attack, batch_classes=2).parts(5)
    assert [list(part) for part in parts] == [chosen[:2], chosen[2:]]
    last = invert(target, prior, 5, attack, seed=4, part=parts[1])
    assert torch.allclose(last.images, found.images[4:], atol=1e-4)


def test_the_classes_are_drawn_alike_everywhere_and_fewer_are_a_part_of_more():
    drawn = [small_attack("ppa", attacked_classes=n).attacked(530) for n in (1, 75, 100, 530)]
    for fewer, more in zip(drawn, drawn[1:], strict=False):
        assert set(fewer) < set(more)
        assert list(fewer) == sorted(fewer)
    assert drawn[-1] == list(range(530))
    assert small_attack("if_gmi", attacked_classes=75).attacked(530) == drawn[1]
    assert small_attack("ppa").attacked(5) == range(5)
    assert max(drawn[1]) - min(drawn[1]) > 265  # not the first ones


def test_time_and_memory_are_those_of_the_attacked_classes(target, prior, monkeypatch):
    monkeypatch.setattr(
        "atat_ray.inversion.cost_estimate.fastest_seconds", lambda device, work: work() or 1.0
    )
    for name in MORE:
        some, every = small_attack(name, attacked_classes=2), small_attack(name)
        few, more = estimate(target, prior, 5, some), estimate(target, prior, 2, every)
        assert few.seconds == pytest.approx(more.seconds)
        assert estimate_bytes(target, prior, 5, some) == estimate_bytes(target, prior, 2, every)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (7, "attacked_classes must be at most 6, the number of classes, got 7; omit it for all"),
        (0, "attacked_classes must be 1 or more, got 0; omit it for all"),
    ],
)
def test_an_impossible_number_is_refused_when_the_protocol_is_read(content, number, message):
    content["inversions"]["standard"]["ppa"]["attacked_classes"] = number
    with pytest.raises(ValueError, match=message) as error:
        check_protocol(content, "file.yaml")
    assert "\n" not in str(error.value)


def test_too_many_classes_for_the_people_of_one_block_are_refused(content):
    content["inversions"]["standard"]["ppa"]["attacked_classes"] = 6
    check_protocol(content, "file.yaml")
    content["blocks"]["split-1"]["data"] = {**content["data"], "num_private": 5}
    with pytest.raises(ValueError, match="attacked_classes must be at most 5"):
        check_protocol(content, "file.yaml")


def test_a_unit_is_scored_and_measured_on_the_attacked_classes(tiny_protocol, content, tmp_path):
    standard = content["inversions"]["standard"]
    standard["ppa"] |= {"attacked_classes": 3, "batch_classes": 2}
    protocol = tiny_protocol(inversions={"standard": standard})
    spec = protocol.unit_spec("split-0-01", "split-0", "control")
    outcome = run_unit(spec, assets=tmp_path / "assets", folder=tmp_path / "unit")
    split = load_split(spec.block.data, 0)
    chosen = spec.inversions["standard"].attacked(6)
    assert [row["class"] for row in outcome["classes"]] == [split.names[c] for c in chosen]
    assert {row["n"] for row in outcome["classes"]} == {2}
    picture = measure_stage(spec, tmp_path / "assets", tmp_path / "unit")["pictures"]["standard"]
    assert 0 <= picture["knowledge"] <= 1
    faces = of_classes(split.test, torch.tensor(chosen))
    assert faces.labels.unique().tolist() == chosen
    assert len(faces.images) == len(faces.labels) < len(split.test.labels)
