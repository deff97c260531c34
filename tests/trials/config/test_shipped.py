"""Shipped protocols at the paper's scale: messages about missing files, and key settings."""

import pytest
import torch

from atat_ray.priors.stylegan2 import StyleGan2Options, StyleGan2Prior
from atat_ray.priors.stylegan2.networks import Generator, Shape
from trials.cli import program as cli
from trials.config.load import read_protocol, read_sweep
from trials.execution.resources import resources_of

AT_SCALE = {
    "celeba-rct": ("run", 4),
    "facescrub-benchmark": ("run", 6),
    "facescrub-rct": ("run", 4),
    "lambda-epsilon-sweep": ("sweep", 4),
}


@pytest.mark.parametrize("name", AT_SCALE)
def test_missing_files_are_all_named_one_line_each(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    command, number = AT_SCALE[name]
    assert cli.main([command, name]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    first, *lines = said.err.splitlines()
    assert first == f"atat: {number} inputs cannot be used:"
    assert [line[:4] for line in lines] == [f"({n + 1}) " for n in range(number)]
    assert lines[0].startswith("(1) there is no folder ")
    assert "ImageNet weights inception_v3" in said.err
    assert f"there is no file {tmp_path}/ffhq.safetensors; `atat prior convert" in said.err
    assert list(tmp_path.iterdir()) == []


def read(name):
    return (read_sweep if AT_SCALE[name][0] == "sweep" else read_protocol)(name)


@pytest.mark.parametrize("name", AT_SCALE)
def test_the_attack_searches_one_w_for_all_layers_as_in_the_paper(name):
    """One w for each of FFHQ's 18 layers would be the larger space W+."""
    as_deep = Generator(Shape(latent_dim=4, style_dim=6, num_layers=1, channels=(2,) * 9))
    assert as_deep.shape.num_styles == 18
    inversion = read(name).inversions["standard"]
    assert inversion.attack.space == "styles"
    shortest = StyleGan2Options(path=inversion.prior.path, sha256=inversion.prior.sha256)
    for prior in (inversion.prior, shortest):
        (searched,) = StyleGan2Prior(as_deep, prior.settings()).begin(torch.randn(5, 4))
        assert searched.shape == (5, 1, 6)


@pytest.mark.parametrize("name", AT_SCALE)
def test_a_unit_at_scale_gets_a_whole_gpu(name):
    settings = read(name)
    assert resources_of(settings, next(iter(settings.blocks)), 1).amounts["GPU"] == 1.0


def test_a_unit_of_one_process_gets_a_quarter_of_a_gpu_by_default(tiny_protocol):
    plain, whole = tiny_protocol(), tiny_protocol(gpu_share=1.0)
    assert resources_of(whole, "split-0", 1).amounts["GPU"] == 1.0
    assert resources_of(plain, "split-0", 1).amounts["GPU"] == 0.25
    with pytest.raises(ValueError, match="gpu_share"):
        tiny_protocol(gpu_share=1.5)


def test_the_radius_of_the_paper_is_converted_to_pixel_units():
    treatment = read_protocol("facescrub-rct").arms["treatment"]
    assert (treatment.epsilon, treatment.step_size, treatment.steps) == (0.00025, 0.00005, 5)
