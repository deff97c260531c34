import pytest
import torch

from atat_ray.data import Faces, load_split
from atat_ray.dependence.hsic import cka, hsic, nocco
from atat_ray.dependence.kernels import gaussian_kernel, linear_kernel
from atat_ray.models import build_target
from atat_ray.unit import measure_stage as measures
from atat_ray.unit import run_unit
from atat_ray.unit.measure_stage import dependence, measure_stage, stage_outputs
from atat_ray.unit.train_stage import load_target
from atat_ray.utils.seeding import generator


def test_dependence_is_the_mean_over_stages():
    images = torch.rand(20, 1, 32, 32, generator=generator("images")) * 0.2
    images += torch.rand(20, 1, 1, 1, generator=generator("brightness")) * 0.8
    faces = Faces(images=images, labels=torch.arange(20) % 4)
    model = build_target("small_resnet", num_classes=4, channels=1, seed=1).eval()
    found = dependence(model, faces, 4, seed=1)
    with torch.no_grad():
        maps = model.norm(model.stem(images * 2 - 1)).relu()
        outputs = []
        for block in model.blocks:
            maps = block(maps)
            outputs.append(maps)
    for one, other in zip(stage_outputs(model, images), outputs, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    of_labels = linear_kernel(torch.eye(4)[faces.labels])
    for name, measure, other in [
        ("hsic_x", hsic, gaussian_kernel(images)), ("cka_y", cka, of_labels)
    ]:  # fmt: skip
        expected = sum(float(measure(gaussian_kernel(o), other)) for o in outputs) / 4
        assert found[name] == pytest.approx(expected, rel=1e-4, abs=1e-7)
    fixed = [gaussian_kernel(o, 5 * o[0].numel() ** 0.5) for o in (images * 2 - 1, *outputs)]
    expected = sum(float(nocco(stage, fixed[0])) for stage in fixed[1:])
    assert found["nocco_x"] == pytest.approx(expected, rel=1e-4)
    assert found["cka_x_p"] == 0.01  # features of an untrained network depend on the image
    assert found["cka_y_p"] > 0.05  # and random images do not tell of their labels


def test_a_finished_unit_is_measured_once(tiny_protocol, tmp_path, monkeypatch):
    spec = tiny_protocol().unit_spec("split-0-01", "split-0", "treatment")
    assets, folder = tmp_path / "assets", tmp_path / "unit"
    run_unit(spec, assets=assets, folder=folder)
    found = measure_stage(spec, assets, folder)
    split = load_split(spec.block.data, 0)
    expected = dependence(
        load_target(spec, split, folder), split.train, 6, seed=spec.seed("dependence")
    )
    assert found["dependence"] == expected
    picture = found["pictures"]["standard"]
    assert set(picture) == {
        "precision", "recall", "density", "coverage", "frechet", "knowledge"
    }  # fmt: skip
    assert picture["frechet"] > 0
    assert 0 <= picture["knowledge"] <= 1
    monkeypatch.setattr(measures, "reconstruction_metrics", None)
    again = measure_stage(spec, assets, folder)
    assert {name: again[name] for name in found} == found
