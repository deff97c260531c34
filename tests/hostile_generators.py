"""Generator files that cost much time or memory, or end the process, unless they are bounded."""

import json
import pickle
import struct

import torch
from generators import small_generator
from safetensors.torch import save


def text(value):
    return pickle.BINUNICODE + len(value.encode()).to_bytes(4, "little") + value.encode()


def blob(value):
    return pickle.BINBYTES + len(value).to_bytes(4, "little") + value


def put(index):
    return b"r" + index.to_bytes(4, "little")


def get(index):
    return b"j" + index.to_bytes(4, "little")


def name(module, name):
    return f"c{module}\n{name}\n".encode()


def doubled(times):
    """Nest a tuple that holds its part twice: 2^times values in a few bytes a time."""
    return b")" + b"".join(put(i) + get(i) + b"\x86" for i in range(times))


LOAD = name("torch.storage", "_load_from_bytes")
VIEW = name("torch._utils", "_rebuild_tensor_v2")
DTYPE = name("numpy", "dtype")


def storage():
    file = torch.arange(20000.0)._typed_storage().__reduce__()[1][0]
    return blob(file)


def record(class_name, state):
    """A call that makes a record, as NVIDIA's pickles have it."""
    meta = b"}(" + text("type") + text("class") + text("class_name") + text(class_name)
    meta += text("module_src") + text("") + text("state") + state + b"u"
    return name("torch_utils.persistence", "_reconstruct_persistent_obj") + meta + b"\x85R"


def generator_of(modules):
    return b"\x80\x03}" + text("G_ema") + record("Generator", modules) + b"s."


def nested_modules(depth, named="a"):
    state = b"}"
    for _ in range(depth):
        state = b"}" + text("_modules") + b"}" + text(named) + record("M", state) + b"ss"
    return generator_of(state)


def shared_parts(count):
    """One dict of many parts, which many records share."""
    parts = b"}(" + b"".join(text(f"p{i}") + b"N" for i in range(count)) + b"u" + put(1) + b"0"
    shared = b"".join(text(f"m{i}") + record("M", b"}" + text("_buffers") + get(1) + b"s")
                      for i in range(count // 10))  # fmt: skip
    return parts + generator_of(b"}" + text("_modules") + b"}(" + shared + b"us")


def shared_tensors(count):
    """Parameters that are views of the same numbers: their copies would fill the memory."""
    made = LOAD + storage() + b"\x85R" + put(1) + b"0"
    view = VIEW + b"(" + get(1) + b"K\x00" + b"M\x64\x00M\x64"
    view += b"\x00\x86K\x01M\x64\x00\x86\x89}tR"  # transposed, so that it is no plain view
    parts = b"".join(text(f"p{i}") + view for i in range(count))
    return made + generator_of(b"}" + text("_parameters") + b"}(" + parts + b"us")


def wide_ints(count):
    """Keys whose hashes are all zero, each compared with each."""
    values = (pickle.dumps(i * (2**61 - 1), protocol=2)[2:-1] + b"N" for i in range(1, count))
    return b"}(" + b"".join(values) + b"u."


CALLS = {
    "dtype code that is nested deeply": DTYPE + b")" + b"\x85" * 150000 + b"\x85R.",
    "dtype code that is doubled": DTYPE + doubled(60) + b"\x85R.",
    "class name that is doubled": b"\x80\x03}" + text("G_ema") + record("Generator", b"}")[:-2]
    + text("class_name") + doubled(60) + b"s\x85Rs.",
    "size that is doubled": LOAD + storage() + b"\x85R" + put(1)
    + b"0" + VIEW + b"(" + get(1) + b"K\x00" + doubled(60)
    + b")\x89}tR.",
    "storage key that is doubled": LOAD + doubled(60)
    + b"\x85R.",
    "setting that is doubled": generator_of(b"}" + text("z_dim") + doubled(60) + b"s"),
    "clamp that is doubled": generator_of(b"}" + text("_modules") + b"}" + text("synthesis")
    + record("S", b"}" + text("_modules") + b"}" + text("b4")
             + record("B", b"}" + text("conv_clamp") + doubled(60) + b"s") + b"ss") + b"ss"),
    "300 reads of one storage": storage() + put(1) + b"0" + LOAD
    + put(2) + b"0(" + (get(2) + get(1) + b"\x85R") * 300 + b"t.",
    "many sets of one list": b"](" + b"".join(text(str(i)) for i in range(20000)) + b"e" + put(1)
    + b"0" + name("builtins", "set") + put(2) + b"0(" + (get(2) + get(1) + b"\x85R") * 5000 + b"t.",
    "many calls with one long tuple": b"(" + b"K\x00" * 100000 + b"t" + put(1) + b"0"
    + VIEW + put(2) + b"0(" + (get(2) + get(1) + b"R") * 9000
    + b"t.",
    "modules nested deeply": nested_modules(4000),
    "modules with long names": nested_modules(3, "n" * 100000),
    "parts that are shared": shared_parts(3000),
    "tensors that are shared": shared_tensors(900),
    "keys of one hash": wide_ints(30000),
    "millions of empty sets": b"\x8f" * 3_000_000 + b".",
    "length of 2^40 bytes": b"\x8e" + (2**40).to_bytes(8, "little") + b"abc",
    "length of 4 GiB": b"B" + b"\xff" * 4 + b"abc",
    "name of newlines and escapes": b"\x80\x04" + text("os\n\x1b[2J")
    + text("sys\rtem\u202e") + b"\x93.",
    "name of a million characters": b"\x80\x04" + text("o" * 10**6) + text("system") + b"\x93.",
    "class name of escapes": generator_of(b"}" + text("_modules") + b"}" + text("\x1b]0;x\x07\n")
    + record("M", b"}") + b"ss"),
    "negative axes": LOAD + storage() + b"\x85R" + put(1) + b"0"
    + VIEW + b"(" + get(1) + b"K\x00J\xff\xff\xff\xff\x85K\x01"
    + b"\x85\x89}tR.",
}  # fmt: skip


def header(entries, size=0):
    """A safetensors file of float32 tensors whose header alone is given."""
    content = json.dumps(entries).encode()
    return struct.pack("<Q", len(content)) + content + bytes(size)


def empty(shape):
    return {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}


def grown(change, **metadata):
    tensors = dict(small_generator().state_dict())
    change(tensors)
    return save(tensors, metadata or None)


def add_blocks(count):
    return lambda t: t.update({f"synthesis.b{4 * 2**i}.torgb.weight": torch.ones(3, 1, 1, 1)
                               for i in range(count)})  # fmt: skip


def add_layers(count):
    return lambda t: t.update({f"mapping.fc{i}.weight": torch.ones(1, 1) for i in range(count)})


def one(key, value):
    return lambda t: t.update({key: value})


SAFETENSORS = {
    "31 blocks": grown(add_blocks(31)),
    "900 blocks": grown(add_blocks(900)),
    "900 layers of the mapping": grown(add_layers(900)),
    "20000 tensors": grown(add_layers(20000)),
    "shapes without numbers": header({
        "mapping.fc0.weight": empty([0, 2**62]),
        "synthesis.b4.torgb.weight": empty([0, 2**62, 1, 1])}),
    "name of escapes": grown(one("\x1b[2J\nname", torch.ones(1))),
    "numbers that are whole": grown(one("mapping.w_avg", torch.ones(8, dtype=torch.int64))),
    "numbers that are not finite": grown(one("mapping.w_avg", torch.full((8,), torch.nan))),
    "numbers too large for float32": grown(
        one("mapping.w_avg", torch.full((8,), 1e300, dtype=torch.float64))),
    "metadata that are nested deeply": grown(
        lambda t: None, **{"atat_ray.stylegan2": '{"clamp":' + "[" * 200000 + "}"}),
    "clamp of 400 digits": grown(
        lambda t: None, **{"atat_ray.stylegan2": '{"clamp": 1' + "0" * 400 + "}"}),
    "clamp that is infinite": grown(lambda t: None, **{"atat_ray.stylegan2": '{"clamp": 1e999}'}),
    "clamp that is true": grown(lambda t: None, **{"atat_ray.stylegan2": '{"clamp": true}'}),
    "activation in the metadata": grown(
        lambda t: None, **{"atat_ray.stylegan2": '{"activation": "relu"}'}),
    "metadata of a stranger": grown(lambda t: None, activation="relu"),
}  # fmt: skip


# What the line must say of some cases.
SAID = {
    "dtype code that is nested deeply.pkl": "NumPy type tuple",
    "dtype code that is doubled.pkl": "NumPy type tuple",
    "300 reads of one storage.pkl": "use more data than the file has",
    "many sets of one list.pkl": "use more data than the file has",
    "modules nested deeply.pkl": "nested more than 4 deep",
    "tensors that are shared.pkl": "share their numbers",
    "keys of one hash.pkl": "a key that is neither text nor int of 32 bits",
    "millions of empty sets.pkl": "more than 200,000 pickle opcodes",
    "name of newlines and escapes.pkl": r"asks for os\n\x1b[2J.sys\rtem\u202e, which",
    "31 blocks.safetensors": "one of 31 blocks fits no memory",
    "shapes without numbers.safetensors": "mapping.fc0.weight has 0 numbers",
    "name of escapes.safetensors": r"unknown \x1b[2J\nname",
    "numbers that are not finite.safetensors": "mapping.w_avg holds numbers that are not finite",
    "metadata of a stranger.safetensors": "its metadata hold activation, which",
}
