"""Generators with other settings, and files of other kinds, are refused by name."""

import bz2
import gzip
import lzma
import re

import pytest
import torch
from generators import nvidia_pickle, small_generator
from hostile_generators import generator_of, grown, name, record, text
from safetensors.torch import save

from atat_ray.priors.stylegan2 import StyleGan2Options
from atat_ray.priors.stylegan2.files import read_generator


def changed(module, **attributes):
    """Return a change of some attributes of one module of a pickle."""
    return lambda generator: generator.get_submodule(module).__dict__.update(attributes)


CHANGES = {
    "mapping.fc1 has the setting activation 'relu'; this reader implements lrelu":
        changed("mapping.fc1", activation="relu"),
    "synthesis.b8.conv0 has the setting activation 'relu'":
        changed("synthesis.b8.conv0", activation="relu"),
    "synthesis.b8.conv1.affine has the setting activation 'lrelu'":
        changed("synthesis.b8.conv1.affine", activation="lrelu"),
    "synthesis.b4.conv1 has the setting act_gain 1.0":
        changed("synthesis.b4.conv1", act_gain=1.0),
    "mapping.fc0 has the setting weight_gain 0.5": changed("mapping.fc0", weight_gain=0.5),
    "mapping.fc0 has the setting bias_gain 1;": changed("mapping.fc0", bias_gain=1),
    "synthesis.b4.torgb has the setting weight_gain 2":
        changed("synthesis.b4.torgb", weight_gain=2),
    "synthesis.b8.conv0 has the setting up 1; this reader implements 2":
        changed("synthesis.b8.conv0", up=1),
    "synthesis.b8.conv1 has the setting use_noise False":
        changed("synthesis.b8.conv1", use_noise=False),
    "synthesis.b8.conv1 has the setting padding 0": changed("synthesis.b8.conv1", padding=0),
    "synthesis.b8 has the setting architecture 'resnet'":
        changed("synthesis.b8", architecture="resnet"),
    "synthesis.b8 has the setting is_last True": changed("synthesis.b8", is_last=True),
    "synthesis has the setting block_resolutions (list)":
        changed("synthesis", block_resolutions=[4, 8]),
    "synthesis has the setting block_resolutions (list);":
        changed("synthesis", block_resolutions=[torch.ones(3), torch.ones(3), torch.ones(3)]),
    "synthesis.b8 has a setting whose name is no text": lambda g: g.get_submodule(
        "synthesis.b8").__dict__.update({1: 2}),
    "mapping.fc0 has the setting weight_gain (an int of more than 64 bits)":
        changed("mapping.fc0", weight_gain=10**400),
    "mapping.fc0 has the setting weight_gain nan":
        changed("mapping.fc0", weight_gain=float("nan")),
    "mapping has the setting conv_clamp 1.0, which": changed("mapping", conv_clamp=1.0),
    "synthesis has the setting num_ws 9": changed("synthesis", num_ws=9),
    "mapping has the setting c_dim 5": changed("mapping", c_dim=5),
    "mapping has the setting num_layers 1": changed("mapping", num_layers=1),
    "G_ema has the setting z_dim 0": changed("", z_dim=0),
    "G_ema has the setting truncation 0.5, which this reader does not know":
        changed("", truncation=0.5),
    r"mapping has the setting \x1b[2J 1, which": changed("mapping", **{"\x1b[2J": 1}),
    "mapping has functions in _forward_hooks": changed("mapping", _forward_hooks={1: "f"}),
    "synthesis is a NoiseNetwork; this reader implements SynthesisNetwork":
        changed("synthesis", class_name="NoiseNetwork"),
    "this reader does not implement the module synthesis.b8.noise": lambda g: g.get_submodule(
        "synthesis.b8")._modules.update(noise=g.mapping.fc0.__class__("Noise", torch.nn.Module())),
    "synthesis.b8.conv0.resample_filter must be (4, 4)": lambda g: g.get_submodule(
        "synthesis.b8.conv0")._buffers.update(resample_filter=torch.ones(2, 2) / 4),
}  # fmt: skip


@pytest.mark.parametrize("words", CHANGES)
def test_a_setting_that_is_not_implemented_is_refused_by_name(tmp_path, words):
    path = tmp_path / "a.pkl"
    path.write_bytes(nvidia_pickle(small_generator(), G=None, D=None, change=CHANGES[words]))
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        read_generator(path)
    assert str(caught.value).isprintable()


def test_settings_that_change_no_image_are_accepted(tmp_path):
    path = tmp_path / "a.pkl"
    change = changed("synthesis.b8", use_fp16=True, channels_last=True, training=True)
    path.write_bytes(nvidia_pickle(small_generator(), G=None, D=None, change=change))
    assert read_generator(path).shape == small_generator().shape


WEB = b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 364\n"
TENSORFLOW = b"\x80\x03(cdnnlib.tflib.network\nNetwork\nq\x00)\x81."
STYLEGAN3 = generator_of(b"}" + text("x") + record("SynthesisInput", b"}") + b"s" + text("size")
                         + name("numpy.core.multiarray", "_reconstruct") + b"s")  # fmt: skip
DDP = (
    b"\x80\x03}" + text("G_ema") + name("torch.nn.parallel.distributed", "DistributedDataParallel")
)
FOREIGN = {
    "page.pkl": (WEB, "a web page or an error message of a server; download the file itself"),
    "page2.safetensors": (b"\n\n  " + WEB, "a web page"),
    "answer.pkl": (b'{"message": "Not Found"}', "a JSON text, such as an error message"),
    "answer2.pkl": (b"404: Not Found", "a text file; download the file itself again"),
    "lfs.pkl": (LFS, "a git-lfs pointer, not the file itself; run `git lfs pull`"),
    "lfs.safetensors": (LFS, "a git-lfs pointer"),
    "packed.pkl": (gzip.compress(b"abc"), "a compressed file or an archive; unpack it (gunzip"),
    "packed2.pkl": (lzma.compress(b"abc"), "a compressed file"),
    "packed3.safetensors": (bz2.compress(b"abc"), "a compressed file"),
    "empty.pkl": (b"", "it ends too early, as after a download"),
    "tensorflow.pkl": (TENSORFLOW, "convert it with `python legacy.py --source=FILE"),
    "three.pkl": (STYLEGAN3, "a StyleGAN3 generator; this reader implements StyleGAN2 only"),
    "ddp.pkl": (DDP + b"s.", "a network inside a wrapper for several devices"),
    "cut.pkl": (nvidia_pickle(small_generator())[:50000], "ends too early, as after a download"),
    "cut.safetensors": (grown(lambda t: None)[:-50], "copy or download it again"),
    "misnamed.pkl": (grown(lambda t: None), "a safetensors file; give it the suffix .safetensors"),
    "wrapped.safetensors": (
        save({f"module.{k}": v for k, v in small_generator().state_dict().items()}),
        "its names begin with 'module.', as a wrapper saves them; remove this prefix"),
    "three.safetensors": (save({"synthesis.input.weight": torch.ones(1)}), "a StyleGAN3 generator"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOREIGN)
def test_a_file_of_another_kind_is_named_with_what_to_do(tmp_path, case):
    content, words = FOREIGN[case]
    path = tmp_path / case
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        read_generator(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_torch_save_is_named_with_what_to_do(tmp_path, zipped):
    path = tmp_path / "a.pkl"
    torch.save({"g_ema": torch.ones(3)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="write the state dict of its generator with safetensors"):
        read_generator(path)


@pytest.mark.parametrize("start", [b"<", b"\x1f\x8b", b"BZh"])
def test_a_safetensors_file_is_read_whatever_the_length_of_its_header_looks_like(tmp_path, start):
    length = int.from_bytes(start, "little")
    length += 0 if length > 6000 else 256 * 24
    content = grown(lambda t: None)
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].ljust(length)
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])
    assert path.read_bytes().startswith(start)
    assert read_generator(path).shape == small_generator().shape


def test_a_prior_says_what_the_file_under_its_path_is(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(LFS)
    options = StyleGan2Options(path=str(path), sha256=64 * "1")
    with pytest.raises(ValueError, match="a git-lfs pointer"):
        options.check()
