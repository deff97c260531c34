"""Hostile and damaged generator files and protocols end in a result or one line, within bounds."""

import random

import pytest
from bounded import read_all
from generators import nvidia_pickle, small_generator
from hostile_generators import CALLS, SAFETENSORS, SAID
from mutations import WORDS, replaced
from safetensors.torch import save

from atat_ray.priors.stylegan2.networks import Shape
from trials.config.load import SHIPPED

TINY = Shape(latent_dim=2, style_dim=2, num_layers=1, channels=(2, 1))
READERS = {
    ".pkl": "atat_ray.priors.stylegan2.files:read_generator",
    ".safetensors": "atat_ray.priors.stylegan2.files:read_generator",
    ".yaml": "trials.config.load:read_protocol",
}


def good_files():
    network = small_generator(TINY)
    return {
        ".pkl": nvidia_pickle(network, G=None, D=None),
        ".safetensors": save(dict(network.state_dict())),
        ".yaml": (SHIPPED / "orl-rct.yaml").read_bytes(),
    }


def mutated(content, kind, draw):
    """Change bytes (or words of a text) at a few places."""
    for _ in range(draw.choice([1, 1, 1, 2, 5])):
        if kind == ".yaml" and draw.random() < 0.8:
            lines = content.split(b"\n")
            number = draw.randrange(len(lines))
            key, colon, _ = lines[number].partition(b":")
            lines[number] = key + colon + b" " + draw.choice(WORDS).encode()
            content = b"\n".join(lines)
            continue
        header = kind == ".safetensors" and draw.random() < 0.7  # of about 4 kB
        place = draw.randrange(max(1, min(len(content), 4000) if header else len(content)))
        content = replaced(content, place, draw)
    return content


def write_mutations(folder, count):
    """Write ``count`` mutations of each kind of file; return their paths."""
    paths = []
    for kind, content in good_files().items():
        draw = random.Random(kind)
        for number in range(count):
            paths.append(folder / f"{number}{kind}")
            paths[-1].write_bytes(mutated(content, kind, draw))
    return paths


def check_mutations(paths, outcomes):
    """Fail if most mutations of one kind of file were read as if nothing had happened."""
    for kind in READERS:
        chosen = [said for path, said in zip(paths, outcomes, strict=True) if path.suffix == kind]
        assert sum(said is None for said in chosen) < 0.9 * len(chosen), kind


@pytest.fixture(scope="module")
def read_files(tmp_path_factory):
    """Read 300 mutations and the hostile files in one child; return outcomes by path."""
    folder = tmp_path_factory.mktemp("files")
    paths = write_mutations(folder, 100)
    for suffix, cases in ((".pkl", CALLS), (".safetensors", SAFETENSORS)):
        for case, content in cases.items():
            paths.append(folder / f"{case}{suffix}")
            paths[-1].write_bytes(content)
    return dict(zip(paths, read_all(READERS, paths), strict=True))


def test_mutated_files_end_in_a_result_or_one_line_within_time_and_memory(read_files):
    outcomes = {path: said for path, said in read_files.items() if path.stem.isdigit()}
    assert len(outcomes) == 300
    check_mutations(outcomes, outcomes.values())


def test_hostile_files_are_refused_in_one_line_within_time_and_memory(read_files):
    said = {path.name: said for path, said in read_files.items() if not path.stem.isdigit()}
    assert len(said) == len(CALLS) + len(SAFETENSORS)
    assert [case for case, message in said.items() if message is None] == []
    for case, words in SAID.items():
        assert words in said[case]


@pytest.mark.slow
def test_2000_mutations_of_each_kind_end_in_a_result_or_one_line(tmp_path):
    paths = write_mutations(tmp_path, 2000)
    check_mutations(paths, read_all(READERS, paths))
