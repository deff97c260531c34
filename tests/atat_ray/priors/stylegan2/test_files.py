"""Files of generators, and the prior of a protocol that is read from one."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from generators import SMALL, nvidia_pickle, small_generator
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file, save_file

from atat_ray.data import Data
from atat_ray.inversion import ATTACKS, invert
from atat_ray.inversion.ppa import Ppa
from atat_ray.models import build_target
from atat_ray.priors import PRIORS, load_prior, prior_state
from atat_ray.priors.stylegan2 import StyleGan2Options, StyleGan2Prior
from atat_ray.priors.stylegan2.files import METADATA_KEY, read_generator, write_generator
from atat_ray.priors.stylegan2.framing import Settings
from atat_ray.priors.stylegan2.networks import Shape
from atat_ray.priors.stylegan2.weights import build, infer_shape
from atat_ray.unit import BlockSpec
from atat_ray.unit.block_assets import build_prior, load_block_prior
from atat_ray.utils.hashing import file_hash
from atat_ray.utils.seeding import generator


def images_of(network):
    prior = StyleGan2Prior(network, Settings(psi=0.7, cutoff=3))
    return prior.synthesize(prior.sample_latents(3, generator(1)))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The file of a small generator of colour images."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    write_generator(small_generator(), path)
    return path


@pytest.fixture
def options(weights):
    return StyleGan2Options(path=str(weights), sha256=file_hash(weights), batch=3)


@pytest.mark.parametrize("clamp", [None, 0.5, 256])
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_converted_pickle_makes_the_same_images_bit_for_bit(tmp_path, protocol, clamp):
    network = small_generator(clamp=clamp)
    (tmp_path / "a.pkl").write_bytes(nvidia_pickle(network, protocol))
    read = read_generator(tmp_path / "a.pkl")
    write_generator(read, tmp_path / "a.safetensors")
    again = read_generator(tmp_path / "a.safetensors")
    assert read.clamp == again.clamp == clamp
    assert again.shape == SMALL
    assert torch.equal(images_of(again), images_of(network))
    assert again.state_dict().keys() == network.state_dict().keys()
    for name, tensor in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pkl", "a.safetensors"]


def test_the_same_generator_gives_the_same_bytes(tmp_path, weights):
    (tmp_path / "a.pkl").write_bytes(nvidia_pickle(small_generator(), 4))
    write_generator(read_generator(tmp_path / "a.pkl"), tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == weights.read_bytes()
    assert weights.stat().st_mode & 0o777 == (tmp_path / "a.pkl").stat().st_mode & 0o777
    assert file_hash(weights) == hashlib.sha256(weights.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "shape",
    [
        Shape(latent_dim=5, style_dim=5, num_layers=1, channels=(3,)),
        Shape(latent_dim=4, style_dim=6, num_layers=3, channels=(4, 4, 2, 2, 1)),
        Shape(latent_dim=4, style_dim=6, num_layers=2, channels=(3, 5), image_channels=1),
    ],
)
def test_sizes_are_inferred_from_the_tensors(shape):
    network = small_generator(shape)
    assert infer_shape(network.state_dict()) == shape
    assert torch.equal(images_of(build(network.state_dict())), images_of(network))


def test_weights_are_not_copied():
    state = small_generator().state_dict()
    made = build(state).state_dict()
    assert all(made[name].data_ptr() == tensor.data_ptr() for name, tensor in state.items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: t.pop("mapping.fc0.weight"),
            "not a StyleGAN2 generator: it must have mapping",
        ),
        (lambda t: t.pop("synthesis.b4.torgb.weight"), "and synthesis.b4.torgb.weight, got"),
        (lambda t: t.pop("mapping.w_avg"), "16 pixels: missing mapping.w_avg; unknown nothing"),
        (lambda t: t.pop("synthesis.b16.torgb.weight"), "8 pixels: missing nothing; unknown"),
        (
            lambda t: t.update({"synthesis.b8.skip.weight": torch.ones(1)}),
            "known synthesis.b8.skip",
        ),
        (lambda t: t.update({"mapping.embed.weight": torch.ones(1)}), "is class-conditional"),
        (
            lambda t: t.update({"synthesis.b8.conv0.bias": torch.ones(9)}),
            r"synthesis.b8.conv0.bias must be \(5,\) in a generator of these sizes, is \(9,\)",
        ),
        (lambda t: t.update({"mapping.fc0.weight": torch.ones(9)}), "must have 2 axes or more"),
        (lambda t: t.clear(), "got nothing"),
    ],
)
def test_tensors_that_are_no_generator_are_refused(tmp_path, change, said):
    tensors = dict(small_generator().state_dict())
    change(tensors)
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=said) as caught:
        read_generator(tmp_path / "a.safetensors")
    assert str(tmp_path / "a.safetensors") in str(caught.value)


def test_plain_safetensors_of_the_public_names_are_read(tmp_path, weights):
    save_file(load_file(weights), tmp_path / "plain.safetensors")
    read = read_generator(tmp_path / "plain.safetensors")
    assert read.clamp is None
    assert torch.equal(images_of(read), images_of(small_generator()))


@pytest.mark.parametrize("clamp", ["[1]", "null", "{", '{"clamp": -1}', '{"clamp": "x"}'])
def test_damaged_metadata_is_refused(tmp_path, weights, clamp):
    save_file(load_file(weights), tmp_path / "a.safetensors", {METADATA_KEY: clamp})
    with pytest.raises(ValueError, match=r"a\.safetensors"):
        read_generator(tmp_path / "a.safetensors")


def test_files_that_are_not_what_they_are_named_are_refused(tmp_path, weights):
    for name, content, said in (
        ("a.safetensors", weights.read_bytes()[:-50], "not a complete safetensors file"),
        ("b.safetensors", b"", "not a complete safetensors file"),
        ("c.pkl", weights.read_bytes(), "not a whole pickle"),
        ("d.pt", b"", r"must end in .pkl or .safetensors"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=said):
            read_generator(tmp_path / name)
    with pytest.raises(ValueError, match="there is no file"):
        read_generator(tmp_path / "e.pkl")


def test_different_clamps_in_one_file_are_refused(tmp_path):
    network = small_generator(clamp=0.5)
    network.synthesis.get_submodule("b8").conv1.clamp = 2.0
    (tmp_path / "a.pkl").write_bytes(nvidia_pickle(network))
    with pytest.raises(ValueError, match="clamp to different numbers"):
        read_generator(tmp_path / "a.pkl")


def test_an_existing_file_is_not_overwritten(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_text("mine")
    with pytest.raises(ValueError, match="exists already"):
        write_generator(small_generator(), path)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_images_have_the_size_and_the_colours_of_the_public_ones(options):
    for channels, size in ((3, 12), (1, 32)):
        prior = options.fit(torch.rand(2, channels, size, size), generator(1))
        images = prior.synthesize(3 * prior.sample_latents(4, generator(2)))
        assert images.shape == (4, channels, size, size)
        assert images.min() >= 0
        assert images.max() <= 1
    assert prior.settings.psi == 0.5
    assert prior.settings.batch == 3


def test_public_images_that_the_generator_cannot_make_are_refused(options):
    with pytest.raises(ValueError, match="square images, the public ones are 20x16"):
        options.fit(torch.rand(2, 3, 20, 16), generator(1))
    with pytest.raises(ValueError, match="generates 3 colours, the public images have 2"):
        options.fit(torch.rand(2, 2, 16, 16), generator(1))


def test_another_file_under_the_path_is_refused(options, tmp_path):
    other = tmp_path / "other.safetensors"
    write_generator(small_generator(seed=5), other)
    with pytest.raises(ValueError, match=f"has sha256 {file_hash(other)}, not {options.sha256}"):
        replace(options, path=str(other)).fit(torch.rand(2, 3, 16, 16), generator(1))
    with pytest.raises(ValueError, match=r"there is no file .* convert ffhq.pkl .*docs/priors.md"):
        replace(options, path="gone.safetensors").fit(torch.rand(2, 3, 16, 16), generator(1))
    with pytest.raises(ValueError, match="`atat prior convert x.pkl x.safetensors` makes one"):
        replace(options, path="x.pkl").fit(torch.rand(2, 3, 16, 16), generator(1))


def block(options):
    data = Data(name="orl_faces", num_private=6, num_train=7, size=32)
    return BlockSpec(
        name="b", seed=1, data=data, split=0, evaluation=None, priors={"standard": options}
    )


def test_the_hash_of_a_prior_depends_on_the_content_of_its_file_and_not_on_its_path(options):
    name = block(options).prior_hash("standard")
    assert block(replace(options, path="elsewhere.safetensors")).prior_hash("standard") == name
    for change in ({"sha256": 64 * "0"}, {"psi": 0.6}, {"cutoff": 3}, {"crop": 12}):
        assert block(replace(options, **change)).prior_hash("standard") != name


def test_a_block_stores_no_copy_of_the_file_and_reads_it_from_its_current_path(
    options, weights, tmp_path
):
    spec = block(options)
    latents = torch.randn(3, 6, generator=generator(1))
    first = load_block_prior(spec, "standard", tmp_path)
    images = first.synthesize(latents)
    assert images.shape == (3, 1, 32, 32)
    (kept,) = tmp_path.iterdir()
    assert kept.stat().st_size < 4000 < weights.stat().st_size
    before = kept.read_bytes()
    moved = tmp_path / "moved.safetensors"
    shutil.copy(weights, moved)
    again = load_block_prior(block(replace(options, path=str(moved))), "standard", tmp_path)
    assert torch.equal(again.synthesize(latents), images)
    assert kept.read_bytes() == before
    assert build_prior(spec, "standard", tmp_path)["sha256"] == spec.prior_hash("standard")
    moved.write_bytes(moved.read_bytes()[:-1] + b"\x55")
    with pytest.raises(ValueError, match="it is another generator"):
        load_block_prior(block(replace(options, path=str(moved))), "standard", tmp_path)


def test_an_attack_searches_the_prior(options):
    """Six steps raise the confidence of the target model."""
    target = build_target("small_resnet", num_classes=2, channels=1, seed=0).eval()
    prior = options.fit(torch.rand(2, 1, 32, 32), generator(1))
    budget = dict(samples=8, candidates=2, learning_rate=0.1, betas=(0.1, 0.1), views=2, keep=2,
                  crop_area=(0.9, 1.0), latent_limit=3.0, view_area=(0.5, 0.9))  # fmt: skip
    confidences = []
    for steps in (0, 6):
        found = invert(target, prior, 2, Ppa(**budget, steps=steps), seed=1)
        assert found.images.shape == (4, 1, 32, 32)
        with torch.no_grad():
            confidence = target(found.images).softmax(1).gather(1, found.classes[:, None])
        confidences.append(float(confidence.mean()))
    assert confidences[1] > confidences[0]


def test_a_prior_that_is_read_from_a_file_needs_its_path(options):
    state = prior_state(options.fit(torch.rand(2, 3, 16, 16), generator(1)))
    with pytest.raises(ValueError, match="stylegan2 prior is read from its weights file"):
        load_prior(state)
    assert isinstance(load_prior(state, options.file()), StyleGan2Prior)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sha256": "abc"}, "sha256 must be 64 digits 0-9a-f, got 'abc'"),
        ({"psi": 0.0}, "psi must be above 0, got 0.0"),
        ({"cutoff": 0}, "cutoff must be 1 or more, got 0"),
    ],
)
def test_bad_options_are_refused(values, message):
    values = {"path": "x.safetensors", "sha256": 64 * "0", **values}
    with pytest.raises(ValueError, match=message):
        StyleGan2Options(**values)
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(PRIORS["stylegan2"]).validate_python(values)


def test_a_protocol_must_say_which_file(tiny_protocol, content, options):
    inversion = content["inversions"]["standard"]
    prior = {"name": "stylegan2", "path": options.path, "sha256": options.sha256, "cutoff": None}
    made = tiny_protocol(inversions={"standard": {**inversion, "prior": prior}})
    written = json.loads(made.model_dump_json())["inversions"]["standard"]["prior"]
    assert written["path"] == options.path
    assert written["sha256"] == options.sha256
    assert Path(written["path"]).exists()
    with pytest.raises(ValidationError, match="sha256"):
        tiny_protocol(
            inversions={"standard": {**inversion, "prior": {"name": "stylegan2", "path": "x"}}}
        )


@pytest.mark.parametrize("batch", [2, 8])
def test_styles_features_and_weights_are_searched_and_tuned(options, batch):
    """The paper's presets with few steps; the prior itself is unchanged."""
    target = build_target("small_resnet", num_classes=2, channels=1, seed=0).eval()
    prior = replace(options, batch=batch).fit(torch.rand(2, 1, 32, 32), generator(1))
    before = {name: tensor.clone() for name, tensor in prior.state_dict().items()}
    small = {"samples": 8, "candidates": 4, "keep": 2, "views": 2, "batch": 3}
    cut = {
        "ppa": {"steps": 2, "milestones": (1,)},
        "if_gmi": {"steps": (2, 1, 1, 1)},
        "ppdg": {"steps": 2, "pseudo_private": 2, "pivot_steps": 2, "tuning_steps": 2},
    }
    for name, attack in ATTACKS.items():
        chosen = attack(**{**attack.presets["paper"], **small, **cut[name]})
        found = invert(target, prior, 2, chosen, seed=1)
        assert found.images.shape == (4, 1, 32, 32)
        assert found.latents.shape[-1] == prior.generator.shape.style_dim
    assert all(torch.equal(before[name], tensor) for name, tensor in prior.state_dict().items())
    assert not any(tensor.requires_grad for tensor in prior.parameters())
