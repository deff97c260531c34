"""Malicious pickles are refused with a message that names the reason, and never run."""

import copyreg
import io
import os
import pickle
import pickletools

import pytest
import torch
from generators import SOURCE, nvidia_pickle, small_generator
from hypothesis import given, settings
from hypothesis import strategies as st

from atat_ray.priors.pickle_opcodes import RefusedPickle
from atat_ray.priors.safe_unpickling import unpickle
from atat_ray.priors.stylegan2.files import read_generator
from atat_ray.priors.stylegan2.module_records import Record
from atat_ray.priors.stylegan2.nvidia_pickle import ALLOWED


class Call:
    """Pickled as a call."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


def text(value):
    return pickle.BINUNICODE + len(value).to_bytes(4, "little") + value.encode()


def stack_global(module, name):
    return b"\x80\x04" + text(module) + text(name) + b"\x93"


def torch_saved(value, *, zipped):
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def loading(content):
    """A pickle that makes torch load embedded bytes, as every tensor in NVIDIA's files does."""
    return pickle.dumps({"G_ema": Call(torch.storage._load_from_bytes, content)}, protocol=3)


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "ran"


@pytest.fixture
def refused(tmp_path, marker):
    """Return a function that reads bytes as a file and returns the one line that refuses them."""
    number = iter(range(10**6))

    def read(content):
        path = tmp_path / f"{next(number)}.pkl"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=".") as caught:
            read_generator(path)
        assert not marker.exists()
        said = str(caught.value)
        assert said.startswith(f"{path}: ")
        assert "\n" not in said
        return said

    return read


def asking(command):
    """Pickles that run a command when pickle reads them, with what the refusal must name."""
    run = Call(os.system, command)
    text_command = text(command)
    deep = {"G_ema": [{"a": ({"b": run},)}]}
    return {
        "system": (pickle.dumps(run), "posix.system"),
        "system by its other name": (b"cos\nsystem\n" + text_command + b"\x85R.", "os.system"),
        "nested": (pickle.dumps(deep, protocol=3), "posix.system"),
        "a reduce in a reduce": (pickle.dumps(Call(set, [run]), protocol=3), "posix.system"),
        "eval": (pickle.dumps(Call(eval, f"__import__('os').system({command!r})")), "eval"),
        "exec": (pickle.dumps(Call(exec, f"import os; os.system({command!r})")), "exec"),
        "legacy torch": (loading(torch_saved(run, zipped=False)), "posix.system"),
        "zipped torch": (loading(torch_saved(run, zipped=True)), "zip archive"),
        "a pickle where torch should be": (loading(pickle.dumps(run, protocol=2)), "posix.system"),
        "inst": (b"(" + text_command + b"ios\nsystem\n.", "INST (os.system)"),
        "obj": (b"(cos\nsystem\n" + text_command + b"o.", "os.system"),
        "dotted": (stack_global("os", "path.os.system") + text_command + b"\x85R.", "os.path.os"),
    }


@pytest.mark.parametrize("case", sorted(asking("")))
def test_a_pickle_that_runs_a_command_is_refused_by_name(refused, marker, case):
    content, named = asking(f"touch {marker}")[case]
    said = refused(content)
    assert named in said
    if case not in ("obj", "legacy torch", "zipped torch", "a pickle where torch should be"):
        pickle.loads(content)
        assert marker.exists()  # so it would have run


@pytest.mark.parametrize("zipped", [False, True])
def test_the_torch_exploits_run_in_plain_torch(marker, zipped):
    content = torch_saved(Call(os.system, f"touch {marker}"), zipped=zipped)
    torch.load(io.BytesIO(content), weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "getattr"),
        ("builtins", "__import__"),
        ("builtins", "set.__init__"),
        ("collections", "OrderedDict.fromkeys"),
        ("collections", "namedtuple"),
        ("copyreg", "_reconstructor"),
        ("functools", "partial"),
        ("torch", "load"),
        ("torch", "storage._load_from_bytes"),
        ("torch.hub", "load"),
        ("torch.storage", "_load_from_bytes.__globals__"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch_utils.persistence", "exec"),
        ("numpy.testing", "rundocs"),
        ("dnnlib.tflib.network", "Network"),
    ],
)
def test_names_beside_the_allowed_ones_are_refused(refused, module, name):
    if "." not in name:
        said = refused(f"c{module}\n{name}\n.".encode())
        assert f"asks for {module}.{name}, which a generator does not need; nothing was run" in said
    assert f"asks for {module}.{name}, " in refused(stack_global(module, name) + b".")


def test_a_name_from_the_extension_registry_is_refused_even_if_it_is_cached(refused, marker):
    copyreg.add_extension("posix", "system", 240)
    try:
        content = b"\x82\xf0" + text(f"touch {marker}") + b"\x85R."
        pickle.loads(content)
        marker.unlink()
        assert "opcode EXT1" in refused(content)
    finally:
        copyreg.remove_extension("posix", "system", 240)
        copyreg.clear_extension_cache()


ORDERED = b"ccollections\nOrderedDict\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (ORDERED + b"}" + text("__call__") + text("x") + b"sb.", "sets the state of collections."),
        (ORDERED + b")R}b.", "sets the state of dict"),
        (ORDERED + b")R)R.", "calls what is no function"),
        (b"]}b.", "sets the state of list"),
        (text("os.system") + b")R.", "calls what is no function"),
        (b"N)\x81.", "calls what is no function"),
        (ORDERED + b"}}\x92.", "opcode NEWOBJ_EX"),
        (ORDERED + text("abc") + b"R.", "calls what is no function"),
        (ORDERED + b"](K\x01K\x02e\x85R.", "makes a dict with content"),
        (b"Pos.system\n.", "opcode PERSID"),
        (text("x") + b"Q.", "opcode BINPERSID"),
        (b"I01\n.", "opcode INT"),
        (b"cbuiltins\nset\n](Ne\x85R.", "not text"),
        (b"\x8f(N\x90.", "neither text nor int"),
        (b"}(NK\x01u.", "neither text nor int"),
        (b"}NK\x01s.", "neither text nor int"),
        (b"N(K\x01e.", "not a list"),
        (b"cnumpy\ndtype\n" + text("O8") + b"\x85R.", "NumPy type 'O8'"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00K\x00K\x00t" + b"R.", "a tensor of NoneType"),
        (b"ctorch._utils\n_rebuild_parameter\nN\x85R.", "a parameter of NoneType"),
        (b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n}\x85R.", "without class name"),
        (b"ctorch_utils.persistence\n_reconstruct_persistent_obj\nN\x85R.", "it does not accept"),
        (b"(((.", "not a whole pickle"),
        (b"(K\x01\x85\x85.", "not a whole pickle"),
        (b"(\x85.", "a mark where a value should be"),
        (b"K\x01\x93.", "not a whole pickle"),
        (b"K\x01K\x02\x93.", "a name is not text"),
        (b"h\x05.", "not a whole pickle"),
        (b"\x8e" + b"\xff" * 7 + b"\x7f.", "not a whole pickle"),
        (b"", "not a whole pickle"),
        (b"}.", "no generator G_ema"),
        (b"K\x01.", "no generator G_ema"),
        (b"PK\x03\x04 and so on", "torch.save"),
    ],
)  # fmt: skip
def test_anything_but_plain_containers_is_refused(refused, content, said):
    assert said in refused(content)


@pytest.mark.parametrize(
    "content",
    [
        b"(" * 10**5,
        b"]" + b"]a" * 10**5 + b".",
        b")" + b"\x85" * 10**5 + b".",
        b"})" + b"\x85" * 10**5 + b"K\x01s.",  # hashing this key would overflow the stack of C
        b"\x8f()" + b"\x85" * 10**5 + b"\x90.",
    ],
)
def test_deep_nesting_is_refused_in_one_line(refused, content):
    refused(content)


def test_a_tensor_may_neither_exceed_nor_multiply_its_numbers(refused):
    storage = torch.zeros(4)._typed_storage()
    for arguments in ((0, (5,), (1,)), (2, (4,), (1,)), (0, (10**12,), (0,)), (-1, (2,), (1,)),
                      (0, (2,), (-1,)), (0, ("a",), (1,)), (0, (-2,), (1,))):  # fmt: skip
        call = Call(torch._utils._rebuild_tensor_v2, storage, *arguments, False, {})
        assert "tensor" in refused(pickle.dumps({"G_ema": call}, protocol=3))


def pieces(storage):
    """Split the file that torch writes for a storage: five pickles, and the numbers."""
    content = storage.__reduce__()[1][0]
    file = io.BytesIO(content)
    places = [0]
    for _ in range(5):
        for _ in pickletools.genops(file):
            pass
        places.append(file.tell())
    return [content[a:b] for a, b in zip(places, [*places[1:], None], strict=True)]


NUMBERS = pieces(torch.arange(3.0)._typed_storage())
# With ten times as many it ends the process in the reader of weights alone of torch 2.14.
DEEP = b"\x80\x02})" + b"\x85" * 10**5 + b"K\x01s."


def identity(*parts):
    return b"\x80\x02(" + b"".join(parts) + b"tQ."


FLOATS = b"ctorch\nFloatStorage\n"


@pytest.mark.parametrize(
    ("place", "piece", "said"),
    [
        (0, pickle.dumps(5, protocol=2), "an unknown format of torch.save"),
        (1, pickle.dumps(1000, protocol=2), "an unknown format of torch.save"),
        (2, pickle.dumps({"little_endian": False}, protocol=2), "an unknown format of torch.save"),
        (2, DEEP, "neither text nor int"),
        (3, DEEP, "neither text nor int"),
        (3, pickle.dumps(None, protocol=2), "holds NoneType, not numbers"),
        (3, pickle.dumps(torch.float32, protocol=2), "asks for torch.float32, which a tensor"),
        (3, b"\x80\x02" + FLOATS + b")R.", "calls a class that a tensor may only name"),
        (
            3,
            identity(text("module"), FLOATS, text("a"), text("cpu"), b"K\x03N"),
            "no valid storage",
        ),
        (3, identity(text("storage"), FLOATS, b")", text("cpu"), b"K\x03N"), "no valid storage"),
        (
            3,
            identity(text("storage"), FLOATS, text("a"), text("cpu"), b"K\x03N"),
            "has no numbers, or contradicts itself",
        ),
        (4, pickle.dumps([], protocol=2), "has no numbers, or contradicts itself"),
        (5, NUMBERS[5][:-1], "11 bytes, 12 expected"),
        (5, NUMBERS[5] + b"x", "13 bytes, 12 expected"),
        (5, b"\xff" * 8 + NUMBERS[5][8:], "has no numbers, or contradicts itself"),
        (5, b"", "has no numbers, or contradicts itself"),
    ],
)
def test_an_embedded_file_must_hold_the_numbers_of_a_tensor(refused, place, piece, said):
    parts = [*NUMBERS]
    parts[place] = piece
    assert said in refused(loading(b"".join(parts)))


@pytest.mark.parametrize(
    "kind", [torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool]
)
def test_numbers_of_every_type_come_back(kind):
    tensor = torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]).to(kind)
    for sent in (tensor, tensor.T, tensor[1:, 1:]):
        made = unpickle(io.BytesIO(pickle.dumps(sent, protocol=3)), ALLOWED, what="a tensor")
        assert made.dtype == kind
        assert torch.equal(made, sent)


def test_a_file_cut_off_anywhere_is_refused_in_one_line(refused):
    content = nvidia_pickle(small_generator())
    for length in range(0, len(content), 3001):
        refused(content[:length])


def test_the_source_of_a_module_stays_text():
    made = unpickle(io.BytesIO(nvidia_pickle(small_generator())), ALLOWED, what="a generator")
    assert isinstance(made["G_ema"], Record)
    assert made["G_ema"].class_name == "Generator"
    assert made["G_ema"].module_source == SOURCE


def test_a_module_inside_itself_is_refused(refused):
    modules, record = b"h\x00", b"h\x01"
    state = b"}" + text("_modules") + modules + b"s"
    meta = b"}(" + text("type") + text("class") + text("class_name") + text("G")
    meta += text("state") + state + b"u"
    made = b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n" + meta + b"\x85Rq\x01"
    loop = modules + text("b4") + record + b"s0"
    assert "b4 is not a module, or occurs twice" in refused(
        b"}q\x000" + b"}" + text("G_ema") + made + b"s" + loop + b"."
    )


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False)
    | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple)
    | st.dictionaries(st.text() | st.integers(-(2**31), 2**31 - 1), inner) | st.sets(st.text()),
    max_leaves=20,
)  # fmt: skip


@settings(deadline=None, max_examples=50)
@given(value=PLAIN)
def test_plain_data_comes_back_as_pickle_would_give_it(value):
    assert unpickle(io.BytesIO(pickle.dumps(value, protocol=4)), {}, what="data") == value


def outcome(content):
    """Read bytes; what is not a refusal goes on to the test."""
    try:
        unpickle(io.BytesIO(content), ALLOWED, what="a generator")
    except RefusedPickle as error:
        return str(error)
    return ""


@settings(deadline=None, max_examples=300)
@given(content=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_and_nothing_else_happens(content):
    assert "\n" not in outcome(content)


GOOD = nvidia_pickle(small_generator())


@settings(deadline=None, max_examples=60)
@given(place=st.integers(0, len(GOOD) - 1), byte=st.integers(0, 255))
def test_a_damaged_file_is_read_or_refused_and_nothing_else_happens(place, byte):
    content = bytearray(GOOD)
    content[place] = byte
    assert "\n" not in outcome(content)
