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
        for name, child in parts.named_children():
            self._modules[name] = persistent(child)

    def __reduce__(self):
        meta = EasyDict(
            type="class", version=6, module_src=SOURCE, class_name=self.class_name,
            state={k: v for k, v in self.__dict__.items() if k != "class_name"},
        )  # fmt: skip
        return _reconstruct_persistent_obj, (meta,), None, None, None


NAMES = {"Dense": "FullyConnectedLayer", "StyledConv": "SynthesisLayer", "ToRgb": "ToRGBLayer",
         "Block": "SynthesisBlock", "Mapping": "MappingNetwork", "Synthesis": "SynthesisNetwork",
         "Generator": "Generator"}  # fmt: skip


def persistent(module):
    """Turn one of our modules into one that is pickled as NVIDIA's is."""
    attributes = {"_init_args": (1, "a"), "_init_kwargs": EasyDict(a=1.5, b=None)}
    if isinstance(getattr(module, "weight", None), nn.Parameter):
        attributes["weight_gain"] = 1 / np.sqrt(module.weight.shape[1])
    if hasattr(module, "noise_strength") or type(module).__name__ == "ToRgb":
        attributes["conv_clamp"] = module.clamp
    return Persistent(NAMES[type(module).__name__], module, **attributes)


def nvidia_pickle(generator, protocol=3, **beside):
    """Pickle a generator as NVIDIA's training does, with what else stands in such a file."""
    with fake_modules(), torch.no_grad():
        other = persistent(small_generator(seed=1))
        content = {"training_set_kwargs": EasyDict(class_name="x.Y", path=None, xflip=False),
                   "G": other, "D": other, "augment_pipe": None,
                   "G_ema": persistent(generator), **beside}  # fmt: skip
        file = io.BytesIO()
        pickle.dump(content, file, protocol=protocol)
    return file.getvalue()
