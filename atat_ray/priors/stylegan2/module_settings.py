"""Compare the settings in a file's records with what the layers of this package compute.

A record holds the attributes of a module. Each that the module's code reads must have the value
that ``layers.py`` and ``networks.py`` implement; an attribute that they do not know is refused. The
source in the file is not read: a file whose code, but no setting, was changed is not noticed.
"""

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from atat_ray.priors.pickle_opcodes import RefusedPickle
from atat_ray.priors.stylegan2.layers import GAIN, Dense, StyledConv, ToRgb
from atat_ray.priors.stylegan2.module_records import Record
from atat_ray.priors.stylegan2.networks import Block, Generator, Synthesis
from atat_ray.priors.stylegan2.networks import Mapping as MappingNetwork
from atat_ray.utils.terminal import printable

# Attributes that change no image: training alone reads them, or they choose between half and full
# precision, of which an attack needs the full one.
IGNORED = {"training", "w_avg_beta", "trainable_layers", "use_fp16", "num_fp16_res",
           "channels_last", "fused_modconv_default"}  # fmt: skip
PLAIN = (str, int, float, bool, type(None))


def expected_settings(module: nn.Module, generator: Generator) -> tuple[str, dict[str, Any]]:
    """Return NVIDIA's name for the class of a module, and its attributes that change images."""
    shape = generator.shape
    blocks = [4 * 2**index for index in range(len(shape.channels))]
    sizes = {"w_dim": shape.style_dim, "img_channels": shape.image_channels}
    if isinstance(module, Dense):
        outputs, inputs = module.weight.shape
        return "FullyConnectedLayer", {
            "activation": "lrelu" if module.activate else "linear",
            "weight_gain": module.multiplier / math.sqrt(inputs), "bias_gain": module.multiplier,
            "in_features": inputs, "out_features": outputs,
        }  # fmt: skip
    if isinstance(module, StyledConv | ToRgb):
        outputs, inputs = module.weight.shape[:2]
        widths = {"in_channels": inputs, "out_channels": outputs, "w_dim": shape.style_dim}
        widths |= {"conv_clamp": module.clamp}
        if isinstance(module, ToRgb):
            return "ToRGBLayer", {"weight_gain": 1 / math.sqrt(inputs), **widths}
        return "SynthesisLayer", {
            "activation": "lrelu", "act_gain": GAIN, "use_noise": True, "padding": 1,
            "up": 2 if module.upsampling else 1, "resolution": len(module.noise_const), **widths,
        }  # fmt: skip
    if isinstance(module, Block):
        resolution = len(module.conv1.noise_const)
        inputs = module.conv0.weight.shape[1] if module.num_convs == 2 else 0
        return "SynthesisBlock", {
            "architecture": "skip", "in_channels": inputs, "resolution": resolution,
            "is_last": resolution == shape.resolution, "num_conv": module.num_convs,
            "num_torgb": 1, **sizes,
        }  # fmt: skip
    images = {"img_resolution": shape.resolution, "num_ws": shape.num_styles}
    latents = {"z_dim": shape.latent_dim, "c_dim": 0}
    if isinstance(module, Synthesis):
        return "SynthesisNetwork", {
            "img_resolution_log2": len(blocks) + 1, "block_resolutions": blocks, **images, **sizes
        }  # fmt: skip
    if isinstance(module, MappingNetwork):
        layers = {"num_layers": shape.num_layers, "num_ws": shape.num_styles}
        return "MappingNetwork", {**latents, **layers, "w_dim": shape.style_dim}
    return "Generator", {**latents, **images, **sizes}


def check_settings(modules: Mapping[str, Record], generator: Generator) -> None:
    """Check that the generator that was built computes what the records describe.

    Args:
        modules: records of the file by the names of their modules.
        generator: built from the tensors of the same file.

    Raises:
        RefusedPickle: names the module and the setting that is not implemented.
    """
    built = dict(generator.named_modules())
    for name, record in modules.items():
        where = name or "G_ema"
        if name not in built:
            raise RefusedPickle(f"this reader does not implement the module {where}")
        class_name, expected = expected_settings(built[name], generator)
        if record.class_name != class_name:
            raise RefusedPickle(f"{where} is a {printable(record.class_name)}; this reader "
                                f"implements {class_name}")  # fmt: skip
        for key, value in record.state.items():
            if type(key) is not str:
                raise RefusedPickle(f"{where} has a setting whose name is no text")
            if key.startswith("_"):  # of torch, and the arguments of the constructor
                if "hook" in key and isinstance(value, dict) and value:
                    raise RefusedPickle(f"{where} has functions in {printable(key)}")
            elif key in expected and not agrees(value, expected[key]):
                raise RefusedPickle(f"{where} has the setting {key} {shown(value)}; this reader "
                                    f"implements {expected[key]} only")  # fmt: skip
            elif key not in expected and key not in IGNORED:
                raise RefusedPickle(f"{where} has the setting {printable(key)} {shown(value)}, "
                                    "which this reader does not know")  # fmt: skip


def agrees(found: Any, expected: Any) -> bool:
    """Tell whether a setting has the expected value; floats up to rounding."""
    if isinstance(expected, list):
        same = type(found) is list and len(found) == len(expected)
        return same and all(map(agrees, found, expected))
    if isinstance(expected, float):
        near = 0.999999 * expected, 1.000001 * expected  # Python compares ints of any size
        return type(found) in (int, float) and min(near) <= found <= max(near)
    return type(found) is type(expected) and found == expected


def shown(value: Any) -> str:
    """Write a setting for a message: plain values, of other values the type alone."""
    if type(value) is int and value.bit_length() > 64:
        return "(an int of more than 64 bits)"
    return printable(repr(value)) if type(value) in PLAIN else f"({type(value).__name__})"
