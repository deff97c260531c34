from dataclasses import replace
from statistics import median

import pytest
import torch
from torch import nn

from analysis import schema
from atat_ray.data import load_split
from atat_ray.defenses import DEFENSES
from atat_ray.models import build_target
from atat_ray.models.image_layers import PixelMask
from atat_ray.models.layer_access import FrontEnd
from atat_ray.unit import bounds_stage as stage
from atat_ray.unit import run_unit
from atat_ray.unit.bounds_options import Bounds
from atat_ray.unit.bounds_stage import bounds_of, deterministic
from atat_ray.unit.run import stage_files
from atat_ray.unit.train_stage import ConstantClassifier, load_target
from atat_ray.utils.seeding import generator, seeded

DELTA = {"weight": 1.0, "epsilon": 0.01, "steps": 1, "step_size": 0.01, "random_start": False}
EVERY = 100  # coordinates: all of them


class Linear(nn.Module):
    """A network of one linear layer on images of 3 x 2 pixels and two channels."""

    def __init__(self, outputs):
        super().__init__()
        with seeded(3):
            self.layer = nn.Linear(12, outputs)

    def forward(self, images):
        return self.layer(images.flatten(1))

    features = forward


def masked(body, *deleted):
    """The network after a mask that deletes the pixels of these numbers."""
    model = FrontEnd(PixelMask(), body)
    mask = torch.zeros(6, dtype=torch.bool)
    mask[list(deleted)] = True
    model.front.deleted = nn.Buffer(mask.view(3, 2))
    return model


def images(count=3, size=(2, 3, 2)):
    return torch.rand(count, *size, generator=generator("images"))


def test_of_a_masked_linear_network_every_value_is_a_closed_form():
    model = masked(Linear(20), 1, 4)
    kept = [0, 2, 3, 5, 6, 8, 9, 11]  # of 12 coordinates: 1 and 4 of each channel are deleted
    found = bounds_of(model, images(), Bounds(noise_scales=(1e-3, 2e-3), pixels=EVERY), seed=1)
    with torch.no_grad():
        rms = model.double()(images().double()).square().mean().sqrt().item()
    weights = model.body.layer.weight.detach()[:, kept]
    for scale in (1e-3, 2e-3):
        noise = scale * rms
        information = weights.T @ weights / noise**2
        largest = torch.linalg.eigvalsh(information)[-1].sqrt().item()
        assert found[f"eta/{scale:g}"] == pytest.approx(largest)
        assert found[f"inverse_dfil/{scale:g}"] == pytest.approx(12 / information.trace().item())
        expected = median(information.inverse().diagonal().sqrt().tolist())
        assert found[f"hcr_sd/{scale:g}"] == pytest.approx(expected, rel=1e-6)
        assert found[f"row_space_sd/{scale:g}"] == pytest.approx(expected)
    assert found["deleted_share"] == found["infinite_share"] == pytest.approx(1 / 3)
    assert found["deleted_infinite_share"] == 1


def test_with_fewer_outputs_than_pixels_every_supremum_is_infinite_without_a_mask():
    found = bounds_of(Linear(5), images(), Bounds(noise_scales=(0.1,), pixels=2), seed=1)
    assert found["infinite_share"] == 1
    assert found["deleted_share"] == 0
    assert "deleted_infinite_share" not in found
    assert 0 < found["row_space_sd/0.1"] <= found["hcr_sd/0.1"] * (1 + 1e-6) < float("inf")


def test_a_network_that_looks_at_deleted_pixels_is_found_out():
    """The share of infinite bounds is measured, not taken from the mask."""

    class Leaky(FrontEnd):
        def features(self, images):
            return self.body(images)

    model = masked(Linear(20), 1)
    leaky = Leaky(model.front, model.body)
    found = bounds_of(leaky, images(), Bounds(noise_scales=(0.1,)), seed=1)
    assert found["deleted_share"] > 0
    assert found["deleted_infinite_share"] == found["infinite_share"] == 0


def test_products_with_the_jacobian_give_what_the_whole_jacobian_gives(monkeypatch):
    model = build_target("small_resnet", num_classes=4, channels=1, seed=1)
    bounds = Bounds(noise_scales=(0.1, 1.0), layer="outputs", pixels=2)
    shown = images(2, (1, 16, 16))
    dense = bounds_of(model, shown, bounds, seed=1)
    monkeypatch.setattr(stage, "DENSE", 0)
    large = bounds_of(model, shown, bounds, seed=1)
    assert set(dense) - set(large) == {"row_space_sd/0.1", "row_space_sd/1", "infinite_share"}
    assert large["eta/1"] == pytest.approx(dense["eta/1"], rel=1e-4)
    assert large["inverse_dfil/1"] == pytest.approx(dense["inverse_dfil/1"], rel=0.3)
    assert large["hcr_sd/0.1"] <= dense["hcr_sd/0.1"]  # it searches fewer directions
    assert large["hcr_sd/0.1"] > 0
    few = bounds_of(model, shown, replace(bounds, power_steps=1, probes=2), seed=1)
    assert few["eta/1"] < 0.99 * large["eta/1"]
    assert few["inverse_dfil/1"] != large["inverse_dfil/1"]


def test_eta_and_floors_scale_with_the_noise():
    model = build_target("small_resnet", num_classes=4, channels=1, seed=1)
    bounds = Bounds(noise_scales=(0.01, 0.1), layer="outputs", pixels=2)
    found = bounds_of(model, images(1, (1, 16, 16)), bounds, seed=1)
    assert found["eta/0.01"] == pytest.approx(10 * found["eta/0.1"])
    assert found["inverse_dfil/0.1"] == pytest.approx(100 * found["inverse_dfil/0.01"])
    assert found["hcr_sd/0.1"] > found["hcr_sd/0.01"]


@pytest.mark.parametrize(
    ("defense", "options"),
    [
        ("mid", {"weight": 0.03, "noise": "always"}),
        ("sca", {"threshold": 0.1, "tau": 20.0, "iterations": 36, "atoms": (2, 3)}),
        ("anti_adversarial", {**DELTA, "adversarial_pass": "split"}),
    ],
)
def test_the_release_of_a_defended_network_is_a_differentiable_function(defense, options):
    """Noise of the network itself is off, and its Jacobian is that of finite differences."""
    kind = DEFENSES[defense]
    model = build_target("small_resnet", num_classes=4, channels=1, seed=1)
    model = kind(**options).prepare(model, public=None, seed=1)
    release = deterministic(model, "outputs")
    shown = images(1, (1, 8, 8)).double()
    assert torch.equal(release(shown), release(shown))
    dense = stage.jacobian(release, shown)[0]
    step = torch.randn(shown.shape, generator=generator("step")).double() * 1e-7
    change = (release(shown + step) - release(shown - step))[0] / 2
    assert torch.allclose(dense @ step.flatten(), change, rtol=1e-3, atol=1e-12)
    assert next(model.parameters()).dtype == torch.float32  # the model itself is not touched


def test_the_layer_that_is_released_is_the_declared_one():
    model = build_target("small_resnet", num_classes=4, channels=1, seed=1).eval()
    shown = images(2, (1, 8, 8))
    with torch.no_grad():
        for layer, expected in (("features", model.features(shown)), ("outputs", model(shown))):
            found = deterministic(model, layer)(shown.double())
            assert torch.allclose(found, expected.double(), atol=1e-5)


def test_a_diverged_unit_loses_nothing_and_records_no_infinite_number():
    found = bounds_of(ConstantClassifier(4), images(), Bounds(noise_scales=(1.0,)), seed=1)
    assert found["infinite_share"] == 1
    assert found["eta/1"] == 0
    assert "hcr_sd/1" not in found
    assert "inverse_dfil/1" not in found


def test_a_unit_with_bounds_records_them_and_is_otherwise_the_same(tiny_protocol, tmp_path):
    options = {"noise_scales": [0.5], "layer": "outputs", "images": 2, "pixels": 2}
    spec = tiny_protocol(bounds=options).unit_spec("split-0-01", "split-0", "control")
    plain = replace(spec, bounds=None)
    assets, folder = tmp_path / "assets", tmp_path / "unit"
    without = run_unit(plain, assets=assets, folder=folder)
    stages = []
    outcome = run_unit(spec, assets=assets, folder=folder, on_stage=stages.append)
    assert stages[-1] == "bounds"
    left = [path.relative_to(folder).as_posix() for path in folder.rglob("*.pt")]
    assert sorted(left) == sorted(stage_files(spec, outcome))
    assert plain.train_hash() == spec.train_hash()
    split, seed = load_split(spec.block.data, 0), spec.seed("bounds")
    order = torch.randperm(len(split.test), generator=generator(seed, "images"))
    shown = split.test.images[order[:2].sort().values]
    expected = bounds_of(load_target(spec, split, folder), shown, spec.bounds, seed=seed)
    assert outcome["bounds"] == expected
    assert outcome["bounds"]["eta/0.5"] > 0
    assert outcome["seconds"]["bounds"] > 0
    for column in expected:
        name, _, scale = column.partition("/")
        assert name in (schema.BOUNDS_BY_SCALE if scale else schema.BOUNDS_OUTCOMES)
    changed = {"specification", "seconds", "bounds"}
    assert {k: v for k, v in outcome.items() if k not in changed} == {
        k: v for k, v in without.items() if k not in changed
    }
    assert "bounds" not in without


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_scales": ()}, "noise_scales must be different numbers of 1e-06 or more, got none"),
        ({"noise_scales": (1.0, 1.0)}, "must be different numbers .* got 1, 1"),
        ({"noise_scales": (0.0,)}, "or more, got 0"),
        ({"noise_scales": (float("nan"),)}, "or more, got nan"),
        ({"noise_scales": (1.0,), "layer": "feature"}, "layer 'feature' .*mean 'features'"),
        ({"noise_scales": (1.0,), "probes": 1}, "probes 2 or more, got 1000 and 1"),
        ({"noise_scales": (1.0,), "images": 0}, "images and pixels must be 1 or more, got 0 and 8"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Bounds(**options)
