"""Small StyleGAN2 generators, and pickles of them laid out as NVIDIA's are."""

import contextlib
import io
import pickle
import sys
import types
from collections import OrderedDict

import numpy as np
import torch
from torch import nn

from atat_ray.priors.stylegan2.networks import Generator, Shape
from atat_ray.utils.seeding import seeded

SMALL = Shape(latent_dim=6, style_dim=8, num_layers=2, channels=(7, 5, 4))  # 16 pixels
SOURCE = "raise SystemExit('the source of the module was run')"


def small_generator(shape=SMALL, clamp=None, seed=0):
    """Make a generator with random weights, noise and mean of w, whose images are not all flat."""
    with seeded(seed):
        generator = Generator(shape, clamp).requires_grad_(False)
        for name, tensor in generator.state_dict().items():
            if name.endswith(("noise_strength", "w_avg")):
                tensor.normal_().mul_(0.3)
            if name.endswith("bias") and "affine" not in name:
                tensor.normal_().mul_(0.1)
    return generator


class EasyDict(dict):
    """Like the dictionary of the module dnnlib.util."""


def _reconstruct_persistent_obj(meta):
    raise AssertionError("an object was made")


@contextlib.contextmanager
def fake_modules():
    """Let pickle find the names that it writes into NVIDIA's files."""
    made = {name: types.ModuleType(name) for name in
            ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util")}  # fmt: skip
    made["torch_utils.persistence"]._reconstruct_persistent_obj = _reconstruct_persistent_obj
    made["dnnlib.util"].EasyDict = EasyDict
    _reconstruct_persistent_obj.__module__, EasyDict.__module__ = (
        "torch_utils.persistence",
        "dnnlib.util",
    )
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in made:
            del sys.modules[name]


class Persistent(nn.Module):
    """A module that is pickled as a call of one function with a dictionary, as NVIDIA's are."""

    def __init__(self, class_name, parts, **attributes):
        super().__init__()
        self.__dict__.update(attributes)
        self.class_name = class_name
        for kind in ("_parameters", "_buffers", "_modules"):  # older torch: all are ordered
            self.__dict__[kind] = OrderedDict(parts.__dict__[kind])

    def __reduce__(self):
        meta = EasyDict(
            type="class", version=6, module_src=SOURCE, class_name=self.class_name,
            state={k: v for k, v in self.__dict__.items() if k != "class_name"},
        )  # fmt: skip
        return _reconstruct_persistent_obj, (meta,), None, None, None


NAMES = {"Dense": "FullyConnectedLayer", "StyledConv": "SynthesisLayer", "ToRgb": "ToRGBLayer",
         "Block": "SynthesisBlock", "Mapping": "MappingNetwork", "Synthesis": "SynthesisNetwork",
         "Generator": "Generator"}  # fmt: skip


def attributes_of(module, shape, clamp):
    """List the attributes that NVIDIA's code gives a module, by its name for the class."""
    side = shape.resolution
    blocks = [4 * 2**i for i in range(len(shape.channels))]
    sizes = {"w_dim": shape.style_dim, "img_channels": shape.image_channels}
    latents = {"z_dim": shape.latent_dim, "c_dim": 0, "num_ws": shape.num_styles}
    kind = NAMES[type(module).__name__]
    outputs, inputs = module.weight.shape[:2] if hasattr(module, "weight") else (0, 0)
    widths = {"in_channels": inputs, "out_channels": outputs, "w_dim": shape.style_dim}
    if kind == "FullyConnectedLayer":
        rate = 0.01 if module.activate else 1
        return dict(
            activation="lrelu" if module.activate else "linear",
            in_features=inputs, out_features=outputs,
            weight_gain=rate / np.sqrt(inputs), bias_gain=rate,
        )  # fmt: skip
    if kind == "SynthesisLayer":
        return dict(
            resolution=len(module.noise_const), up=1 + module.upsampling, use_noise=True,
            activation="lrelu", conv_clamp=clamp, padding=1, act_gain=np.sqrt(2), **widths,
        )  # fmt: skip
    if kind == "ToRGBLayer":
        return dict(conv_clamp=clamp, weight_gain=1 / np.sqrt(inputs), **widths)
    if kind == "SynthesisBlock":
        own = len(module.conv1.noise_const)
        before = module.conv0.weight.shape[1] if hasattr(module, "conv0") else 0
        return dict(in_channels=before, resolution=own, is_last=own == side, architecture="skip",
                    use_fp16=own > 8, channels_last=False, fused_modconv_default="inference_only",
                    num_conv=1 + (before > 0), num_torgb=1, **sizes)  # fmt: skip
    if kind == "MappingNetwork":
        return dict(num_layers=shape.num_layers, w_avg_beta=0.998, w_dim=shape.style_dim, **latents)
    if kind == "SynthesisNetwork":
        return dict(img_resolution=side, img_resolution_log2=len(blocks) + 1, num_fp16_res=4,
                    block_resolutions=blocks, num_ws=shape.num_styles, **sizes)  # fmt: skip
    return dict(img_resolution=side, **latents, **sizes)


def persistent(network):
    """Turn a generator into modules that are pickled as NVIDIA's are."""

    def turned(module):
        attributes = {"_init_args": (1, "a"), "_init_kwargs": EasyDict(a=1.5, b=None)}
        attributes |= attributes_of(module, network.shape, getattr(module, "clamp", None))
        made = Persistent(NAMES[type(module).__name__], module, **attributes)
        for name, child in module.named_children():
            made._modules[name] = turned(child)
        return made

    return turned(network)


def nvidia_pickle(generator, protocol=3, change=None, **beside):
    """Pickle a generator as NVIDIA's training does, with what else stands in such a file.

    ``change`` is called with the modules before they are pickled.
    """
    with fake_modules(), torch.no_grad():
        other, generator = persistent(small_generator(seed=1)), persistent(generator)
        if change:
            change(generator)
        content = {"training_set_kwargs": EasyDict(class_name="x.Y", path=None, xflip=False),
                   "G": other, "D": other, "augment_pipe": None,
                   "G_ema": generator, **beside}  # fmt: skip
        file = io.BytesIO()
        pickle.dump(content, file, protocol=protocol)
    return file.getvalue()
