"""``atat prior convert``: output, written file, and refusals in one line."""

import os

import pytest
from generators import nvidia_pickle, small_generator

from atat_ray.priors.stylegan2.files import read_generator
from atat_ray.utils.hashing import file_hash
from trials.cli import program as cli


@pytest.fixture
def convert(capsys):
    """Return a function that converts; it returns exit code, stdout and stderr."""

    def call(*words):
        code = cli.main(["prior", "convert", *(str(word) for word in words)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def pickled(tmp_path):
    path = tmp_path / "small.pkl"
    path.write_bytes(nvidia_pickle(small_generator(clamp=256)))
    return path


def test_convert_writes_the_generator_and_prints_its_shape(convert, pickled, tmp_path):
    made = tmp_path / "made.safetensors"
    code, out, err = convert(pickled, made)
    assert (code, err) == (0, "")
    count = sum(tensor.numel() for tensor in small_generator().parameters())
    assert "resolution  16 pixels, 3 colours\n" in out
    assert "latents     6; w 8, 6 layers\n" in out
    assert f"parameters  {count:,}\n" in out
    assert f"sha256      {file_hash(made)}\n" in out
    assert f"    name: stylegan2\n    path: {made}\n    sha256: {file_hash(made)}\n" in out
    assert read_generator(made).clamp == 256
    again = tmp_path / "again.safetensors"
    assert convert(made, again)[0] == 0
    assert again.read_bytes() == made.read_bytes()


def test_convert_does_not_overwrite(convert, pickled, tmp_path):
    made = tmp_path / "made.safetensors"
    made.write_text("mine")
    code, out, err = convert(pickled, made)
    assert (code, out) == (2, "")
    assert err == f"atat: {made} exists already; choose another name, or move the file\n"
    assert made.read_text() == "mine"


class Evil:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_hostile_file_is_refused_without_running_or_writing_anything(convert, tmp_path):
    marker, path = tmp_path / "ran", tmp_path / "evil.pkl"
    path.write_bytes(nvidia_pickle(small_generator(), D2=Evil(f"touch {marker}")))
    code, out, err = convert(path, tmp_path / "made.safetensors")
    assert (code, out) == (2, "")
    assert err == (
        f"atat: {path}: the file asks for posix.system, which a generator does not need; "
        "nothing was run\n"
    )
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("gone.pkl", "a.safetensors", "there is no file gone.pkl"),
        ("small.pt", "a.safetensors", "small.pt must end in .pkl or .safetensors"),
        ("small.pkl", "a.pkl", "the new file must end in .safetensors, got a.pkl"),
        ("empty.pkl", "a.safetensors", "empty.pkl: not a whole pickle of a generator"),
        ("small.pkl", "empty.pkl/a.safetensors", "empty.pkl"),
    ],
)
def test_a_mistake_is_one_line(convert, pickled, tmp_path, monkeypatch, source, target, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.pkl").touch()
    code, out, err = convert(source, target)
    assert (code, out) == (2, "")
    assert err.startswith("atat: ")
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "a.safetensors").exists()


def test_the_help_of_convert_has_an_example(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["prior", "convert", "--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert said.startswith("usage: atat prior convert")
    assert "no code in it is run" in said
    assert "atat prior convert ffhq.pkl ffhq.safetensors" in said
