"""Networks and images are on the picked device, shown with torch's device without data."""

import pytest
import torch

from atat_ray.data import load_split
from atat_ray.defenses import tl_dmi
from atat_ray.unit import bounds_stage, run_unit
from atat_ray.unit import measure_stage as measures
from atat_ray.unit import train_stage as target
from atat_ray.unit.measure_stage import measure_stage
from atat_ray.unit.train_stage import new_target, train_here

META = torch.device("meta")


class Met(Exception):
    """Raised in place of a computation; its argument is the set of devices of the inputs."""


def kinds(*given):
    """Name the devices of models, images with labels, and tensors."""
    found = set()
    for one in given:
        if isinstance(one, torch.nn.Module):
            found |= {tensor.device.type for tensor in one.state_dict().values()}
        elif hasattr(one, "images"):
            found |= {one.images[:1].device.type, one.labels.device.type}
        else:
            found.add(one.device.type)
    return found


def meet(*given, **options):
    raise Met(kinds(*(one for one in given if hasattr(one, "to"))))


@pytest.fixture
def frozen(tiny_protocol, content):
    content["arms"]["frozen"] = {"defense": "tl_dmi", "frozen": 1, "public_epochs": 1}
    return tiny_protocol(arms=content["arms"]).unit_spec("split-0-01", "split-0", "frozen")


def test_a_defense_learns_from_public_images_on_the_device(frozen, tmp_path, monkeypatch):
    split = load_split(frozen.block.data, 0)
    monkeypatch.setattr(tl_dmi, "train", meet)
    with pytest.raises(Met) as met:
        new_target(frozen, split, META)
    assert met.value.args == ({"meta"},)
    monkeypatch.setattr(target, "pick_device", lambda: META)
    with pytest.raises(Met) as met:
        train_here(frozen, tmp_path)
    assert met.value.args == ({"meta"},)


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
def test_a_unit_is_measured_on_the_device(tiny_protocol, tmp_path, monkeypatch):
    spec = tiny_protocol().unit_spec("split-0-01", "split-0", "control")
    run_unit(spec, assets=tmp_path / "assets", folder=tmp_path / "unit")
    seen = {}

    def see(name, found):
        def measure(*given, **options):
            seen[name] = kinds(*(one for one in given if hasattr(one, "to")))
            return found

        monkeypatch.setattr(measures, name, measure)

    see("dependence", {})
    see("prdc_by_class", {})
    see("frechet_distance", 0.0)
    see("knowledge_extraction_score", 0.0)
    for module in (target, measures):
        monkeypatch.setattr(module, "pick_device", lambda: META)
    measure_stage(spec, tmp_path / "assets", tmp_path / "unit")
    assert seen == dict.fromkeys(
        ("dependence", "prdc_by_class", "frechet_distance", "knowledge_extraction_score"), {"meta"}
    )


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
def test_bounds_are_measured_on_the_device(tiny_protocol, tmp_path, monkeypatch):
    bounds = {"noise_scales": [1.0], "images": 2}
    spec = tiny_protocol(bounds=bounds).unit_spec("split-0-01", "split-0", "control")
    target.train_stage(spec, tmp_path)
    seen = {}

    def measure(model, images, bounds, *, seed):
        seen.update(images=images.device.type, model=next(model.parameters()).device.type)
        return {}

    monkeypatch.setattr(bounds_stage, "bounds_of", measure)
    for module in (target, bounds_stage):
        monkeypatch.setattr(module, "pick_device", lambda: META)
    bounds_stage.measure_bounds(spec, spec.bounds, tmp_path)
    assert seen == {"images": "meta", "model": "meta"}
